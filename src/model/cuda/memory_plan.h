#pragma once

#include "model/checkpoint.h"
#include "model/model.h"

namespace foveal::model {

/// Memory a model takes on a CUDA device besides the cache.
struct MemoryPlan {
  int64_t weights_bytes = 0;    ///< matrices in bf16 or e4m3, float32 vectors and rope tables
  int64_t workspace_bytes = 0;  ///< activations, logits, GEMM and attention workspace, graphs
};

/// From hyperparameters, and what the checkpoint holds in e4m3, so that the cache can be planned
/// before a weight is read.
MemoryPlan plan_cuda_memory(const Checkpoint& checkpoint, const ModelLimits& limits);

}  // namespace foveal::model

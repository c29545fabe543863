#pragma once

#include "model/config.h"
#include "model/model.h"

namespace foveal::model {

/// Memory a model takes on a CUDA device besides the cache.
struct MemoryPlan {
  int64_t weights_bytes = 0;    ///< bf16 matrices, float32 vectors and rope tables
  int64_t workspace_bytes = 0;  ///< activations, logits, GEMM and attention workspace, graphs
};

/// From hyperparameters alone, so that the cache can be planned before a weight is read.
MemoryPlan plan_cuda_memory(const ModelConfig& config, const ModelLimits& limits);

}  // namespace foveal::model

#pragma once

#include <memory>

#include "attention/attention_set.h"
#include "engine/engine.h"
#include "kv/storage.h"
#include "model/model.h"
#include "scheduler/scheduler.h"

namespace foveal::engine {

/// Everything a LlmConfig settles before the first weight is touched. `inspect` stops here.
struct Setup {
  Device device;
  bool exact = false;  ///< compute_dtype f32
  attention::ModelShape shape;
  std::unique_ptr<attention::AttentionSet> attention;
  kv::KvGeometry geometry;
  kv::CapacityPlan capacity;
  scheduler::SchedulerConfig scheduler;
  int64_t max_seq_len = 0;
  int64_t weights_bytes = 0;  ///< as they lie on the device
  /// What attention keeps beside the cache; on CUDA also activations, logits and what kernels need.
  int64_t workspace_bytes = 0;
  std::vector<int32_t> graph_sizes;  ///< CUDA: sizes of steps that only decode, ascending
  bool graph_padding = false;
  bool record_graphs = false;
  bool e4m3_prefill = false;
  std::string prefix_settings;  ///< what the prefix index's root hashes besides the method
};

/// Throws kInvalidArgument, kUnsupported or kOutOfMemory where config, model and machine disagree.
Setup make_setup(const LlmConfig& config, const model::Checkpoint& checkpoint);

/// The same as figures for people.
EngineInfo engine_info(const Setup& setup, int num_threads);

/// What the model has to be ready for.
model::ModelLimits model_limits(const Setup& setup, const LlmConfig& config);

}  // namespace foveal::engine

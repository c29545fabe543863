#pragma once

#include <memory>
#include <optional>

#include "attention/attention_set.h"
#include "engine/engine.h"
#include "foveal/error.h"
#include "kv/storage.h"
#include "model/model.h"
#include "scheduler/scheduler.h"

namespace foveal::engine {

/// What a device has not the memory for.
struct Shortage {
  int64_t needed_bytes = 0;  ///< weights still to come, workspace, and the cache below
  int64_t free_bytes = 0;
  int64_t cache_tokens = 0;  ///< as configured, or of one request as long as may be
  int64_t cache_bytes = 0;
  Error error;  ///< what starting an engine says of it
};

/// Everything a LlmConfig settles before the first weight is touched. `inspect` stops here.
struct Setup {
  Device device;
  bool exact = false;  ///< compute_dtype f32
  attention::ModelShape shape;
  std::unique_ptr<attention::AttentionSet> attention;
  kv::KvGeometry geometry;
  kv::CapacityPlan capacity;  ///< no pages with a shortage
  std::optional<Shortage> shortage;
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

/// Throws kInvalidArgument or kUnsupported where config, model and machine disagree. Where memory
/// does not do, there is a shortage.
Setup plan_setup(const LlmConfig& config, const model::Checkpoint& checkpoint);

/// The same, but throws kOutOfMemory for a shortage.
Setup make_setup(const LlmConfig& config, const model::Checkpoint& checkpoint);

/// The same as figures for people.
EngineInfo engine_info(const Setup& setup, int num_threads);

/// What the model has to be ready for.
model::ModelLimits model_limits(const Setup& setup, const LlmConfig& config);

}  // namespace foveal::engine

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
  std::string prefix_settings;  ///< what the prefix index's root hashes besides the method
};

/// Throws kInvalidArgument, kUnsupported or kOutOfMemory where config, model and machine disagree.
Setup make_setup(const LlmConfig& config, const model::Checkpoint& checkpoint);

/// The same as figures for people.
EngineInfo engine_info(const Setup& setup, const model::Checkpoint& checkpoint, int num_threads);

}  // namespace foveal::engine

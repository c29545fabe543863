#pragma once

#include <cstddef>
#include <cstdint>

#include "attention/dsa/settings.h"
#include "attention/method.h"

// Plain C++: plans are made, and tested, in builds without CUDA, too.

namespace foveal::attention::dsa {

/// Where a call's arrays lie in the phase's workspace on CUDA.
struct DevicePlaces {
  bool all = false;    ///< no row can see more than topk keys
  int32_t most = 0;    ///< keys that a row attends to at most
  int64_t stride = 0;  ///< of lists
  int64_t scores_stride = 0;
  int32_t chunk = 0;  ///< rows whose scores are kept at once
  size_t weights = 0, scores = 0, tokens = 0, counts = 0, attention = 0;  ///< queries come first
};

DevicePlaces device_places(const Settings& settings, int32_t num_rows, int32_t max_kv_len);

/// Of both phases, decode with a row a sequence, each with what DeviceWorkspace adds. What latent
/// attention takes itself is small, and part of the model's plan.
int64_t device_workspace_bytes(const Settings& settings, const StepLimits& limits);

}  // namespace foveal::attention::dsa

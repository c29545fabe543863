#pragma once

#include "attention/method.h"

namespace foveal::attention {

/// What one call asks of a method.
struct Needs {
  DeviceKind device = DeviceKind::kCpu;
  DType kv_dtype = DType::kBF16;
  Phase phase = Phase::kPrefill;
  bool sliding_window = false;
  bool latent = false;   ///< a latent cache
  int32_t head_dim = 0;  ///< 0: whatever there is
};

/// Throws kUnsupported with what is needed and what the method has, when it lacks something.
void require_capable(const AttentionMethod& method, const Needs& needs);
void require_device(const AttentionMethod& method, Device device);

}  // namespace foveal::attention

#pragma once

#include "attention/method.h"
#include "kernels/paged_attention.h"

namespace foveal::attention {

/// Kernels take factors in float32; smaller ones would turn into 0, and so into "off".
inline constexpr double kMinFactor = 1e-30;

/// What the paged loops can do on a device; a method built on them adds its own.
Capabilities paged_capabilities(DeviceKind device);

/// The paged loops over all keys; with `skip_factor` > 0 under the Skip Softmax tile policy.
/// `tile_map` is for traces, on a CPU.
void attend_paged(Phase phase, const AttendArgs& args, float skip_factor, Stream& stream,
                  const kernels::TileMap& tile_map = {});

/// The same on CUDA; kUnsupported in builds without.
void attend_paged_cuda(Phase phase, const AttendArgs& args, float skip_factor, Stream& stream);

}  // namespace foveal::attention

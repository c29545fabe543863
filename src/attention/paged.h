#pragma once

#include "attention/method.h"
#include "kernels/paged_attention.h"

namespace foveal::attention {

/// Kernels take factors in float32; smaller ones would turn into 0, and so into "off".
inline constexpr double kMinFactor = 1e-30;

/// What the paged loops can do on a device; a method built on them adds its own.
Capabilities paged_capabilities(DeviceKind device);

/// Skip Softmax's tile policy; nothing is skipped at a factor of 0.
struct SkipPolicy {
  float factor = 0;
  bool int8_votes = false;  ///< of prefill on CUDA
};

/// What prefill's int8 votes take of the phase's workspace on CUDA, beyond what a cache in e4m3 has
/// in the model's plan already.
int64_t vote_workspace_bytes(const ModelShape& shape, const StepLimits& limits);

/// The paged loops over all keys, under a tile policy. `tile_map` is for traces, on a CPU.
void attend_paged(Phase phase, const AttendArgs& args, const SkipPolicy& skip, Stream& stream,
                  const kernels::TileMap& tile_map = {});

/// A CPU's call over all keys, without window and policy.
kernels::PagedAttentionParams host_params(const AttendArgs& args);

/// The paged loops on CUDA; kUnsupported in builds without.
void attend_paged_cuda(Phase phase, const AttendArgs& args, const SkipPolicy& skip, Stream& stream);

}  // namespace foveal::attention

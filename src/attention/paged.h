#pragma once

#include "attention/method.h"
#include "kernels/paged_attention.h"

namespace foveal::attention {

/// Kernels take factors in float32; smaller ones would turn into 0, and so into "off".
inline constexpr double kMinFactor = 1e-30;

/// The paged loops over all keys; with `skip_factor` > 0 under the Skip Softmax tile policy.
inline void attend_paged(Phase phase, const AttendArgs& args, float skip_factor, Stream& stream,
                         const kernels::TileMap& tile_map = {}) {
  const kernels::PagedAttentionParams params{.q = args.q,
                                             .out = args.out,
                                             .q_stride = args.q_stride,
                                             .out_stride = args.out_stride,
                                             .num_heads = args.num_heads,
                                             .kv = args.kv,
                                             .seqs = args.seqs,
                                             .softmax_scale = args.softmax_scale,
                                             .window = args.window,
                                             .skip_factor = skip_factor,
                                             .counters = args.counters,
                                             .exact = args.exact,
                                             .tile_map = tile_map};
  if (phase == Phase::kPrefill) {
    kernels::paged_prefill(params, stream);
  } else {
    kernels::paged_decode(params, stream);
  }
}

}  // namespace foveal::attention

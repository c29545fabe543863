#pragma once

#include <array>

#include "foveal/kernels.h"
#include "kernels/cuda/prefill_expand.h"
#include "kernels/cuda/prefill_scratch.h"
#include "kernels/cuda/sm90/prefill_kept.h"
#include "kernels/cuda/sm90/prefill_launch.h"

namespace foveal::kernels::cuda {

/// What a prefill call runs, from sizes alone.
struct PrefillConfig {
  foveal::cuda::PrefillChoice choice;
  int32_t head_dim = 0;
  int32_t box_rows = 0;  ///< keys a bulk copy
};
PrefillConfig choose_prefill(const foveal_attention_params& params, bool listed = false);

/// Sizes that attention_prefill refuses throw, as they do there.
void prefill_check_sizes(const foveal_attention_params& params);

/// A tensor of rows of channels, outer dimensions innermost first, strides in elements from the
/// second on, read in boxes of 64 channels, e4m3 of 32: rows of 128 or 32 bytes, swizzled. Channels
/// past the extent read as zero.
CUtensorMap prefill_map(const void* data, int32_t dtype, std::array<uint64_t, 4> extents,
                        std::array<int64_t, 3> strides, int rank, std::array<uint32_t, 4> box);
CUtensorMap prefill_query_map(const foveal_attention_params& params);
foveal::cuda::PrefillArgs prefill_args(const foveal_attention_params& params,
                                       int64_t lse_row_stride, int32_t box_rows, int64_t l2_bytes);

/// Keys and values in e4m3 as CacheLayout::kTiles.
struct PrefillTiles {
  const uint8_t* k = nullptr;
  const uint8_t* v = nullptr;
  int64_t head_bytes = 0;  ///< from a KV head to the next
};

/// One kernel over a checked call in one type; e4m3 by `tiles`; with `kept`, over what that lists
/// and without votes. `lse` has a row every `lse_row_stride`.
void launch_prefill(const foveal_attention_params& params, int64_t lse_row_stride,
                    const PrefillTiles& tiles, const foveal::cuda::KeptTiles& kept, void* stream);

/// Calls over a cache in e4m3 or with votes in int8 (prefill_pieces.cc) go by way of scratch
/// memory.
bool needs_scratch(const foveal_attention_params& params);
/// A checked one of them.
void prefill_by_scratch(const foveal_attention_params& params, void* stream);
/// A call's keys, lengths and pages for a pass that lays keys out; where they go is left to it.
ExpandCacheParams cached_keys(const foveal_attention_params& params);
ScratchShape scratch_shape(const foveal_attention_params& params);
void check_scratch(const foveal_attention_params& params);

}  // namespace foveal::kernels::cuda

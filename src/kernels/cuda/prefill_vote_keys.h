#pragma once

#include "kernels/cuda/prefill_expand.h"

namespace foveal::kernels::cuda {

/// Keys of a cache in bf16 or f16, and where their integers and scales go.
struct VoteKeysParams {
  ExpandCacheParams cache;  ///< nothing of v; k_out takes integers
  float* scales;            ///< [num_kv_heads, rows / keys of a tile]
};
/// With cache.starts, as expand_cache_launch.
void vote_keys_launch(const VoteKeysParams& params, bool f16, void* stream);

}  // namespace foveal::kernels::cuda

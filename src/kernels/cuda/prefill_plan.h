#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <optional>

#include "base/math.h"
#include "kernels/cuda/prefill_scratch.h"
#include "kernels/cuda/prefill_tiles.h"

// How much scratch prefill takes, for calls and, before there are any, for plans. Plain C++: plans
// are made in builds without CUDA, too.

namespace foveal::kernels::cuda {

/// Bytes that a key of one KV head takes in int8, its share of scales (a tile's takes no more than
/// a byte a key) and of the vector that is subtracted from all keys included.
constexpr int64_t vote_key_bytes(int32_t head_dim) { return int64_t{head_dim} + 1; }

/// A bit for each tile of keys, unit of rows and head; nothing where that overflows.
inline std::optional<int64_t> kept_bits_bytes(int64_t num_rows, int64_t num_seqs, int64_t num_heads,
                                              int32_t max_kv_len, int32_t head_dim) {
  const int32_t words = foveal::cuda::kept_words(max_kv_len, foveal::cuda::prefill_keys(head_dim));
  const auto units = checked_mul(foveal::cuda::kept_blocks(num_rows, num_seqs), num_heads);
  return units ? checked_mul(*units, int64_t{words} * 4) : std::nullopt;
}

/// Rows that calls over one pool are taken to have, so that nearly all take the same memory.
inline int64_t pool_rows(int64_t num_rows) { return round_up(num_rows, int64_t{8192}); }

/// How large calls over one cache can get, and what they go by way of scratch for.
struct PrefillLimits {
  int64_t num_seqs = 1;
  int64_t num_rows = 0;
  int64_t max_kv_len = 0;
  int64_t pool_keys = 0;  ///< of the cache; 0: of all sequences
  int32_t num_heads = 1;
  int32_t num_kv_heads = 1;
  int32_t head_dim = 0;
  int64_t laid_out_bytes = 0;  ///< of a value of an e4m3 cache as laid out; 0: another cache
  bool int8_votes = false;
};

/// The most that prefill_pool_workspace_bytes can ask for.
inline int64_t most_scratch_bytes(const PrefillLimits& limits) {
  ScratchShape shape{.num_seqs = limits.num_seqs,
                     .num_kv_heads = limits.num_kv_heads,
                     .max_kv_len = limits.max_kv_len,
                     .key_bytes = 2 * limits.laid_out_bytes * limits.head_dim};
  if (limits.int8_votes) {
    const int64_t keys = std::max(limits.pool_keys, limits.max_kv_len);
    constexpr int64_t kMost = std::numeric_limits<int32_t>::max();
    shape.key_bytes += vote_key_bytes(limits.head_dim);
    shape.kept_bytes =
        kept_bits_bytes(pool_rows(limits.num_rows), limits.num_seqs, limits.num_heads,
                        static_cast<int32_t>(std::min(keys, kMost)), limits.head_dim)
            .value_or(kMost);
  }
  return shape.key_bytes == 0 ? 0 : pool_scratch_bytes(shape, limits.pool_keys);
}

}  // namespace foveal::kernels::cuda

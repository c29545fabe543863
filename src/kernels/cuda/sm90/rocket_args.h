#pragma once

#include <cstdint>

#include "kernels/cuda/sm90/decode_args.h"

namespace foveal::kernels::cuda {

inline constexpr int32_t kMaxRocketHeads = 128;  ///< query heads of a KV head
inline constexpr int32_t kScoreUnit = 16;   ///< pages a warp scores at a time (rows of one mma)
inline constexpr int32_t kScoreBlock = 64;  ///< pages a warp takes: the grain of the work

/// What the scoring kernel is compiled for.
struct ScoreShape {
  int32_t head_dim;
  int32_t bound_bytes;
  int32_t head_blocks;  ///< blocks of 8 query heads: 1 or 2

  /// Of one side of a unit's bounds in shared memory, as DecodeShape has rows of keys.
  constexpr int32_t side_bytes() const {
    return DecodeShape{head_dim, bound_bytes, head_blocks, false}.unit_bytes();
  }
  constexpr int32_t warps() const { return side_bytes() > 6 * 1024 ? 4 : 8; }
  /// Units in flight a warp.
  constexpr int32_t stages() const {
    const int32_t enough = 96 * 1024 / (warps() * 2 * side_bytes());
    return enough < 2 ? 2 : enough > 4 ? 4 : enough;
  }
  constexpr int32_t opened_bytes() const { return 2 * head_dim * bound_bytes + head_dim * 4 + 64; }
  constexpr int32_t warp_bytes() const { return stages() * 2 * side_bytes() + opened_bytes(); }
  constexpr int32_t shared_bytes() const { return warps() * warp_bytes(); }
};

/// What RocketKV's decode kernels read. "Entries" are the pages of a (sequence, KV head) that are
/// considered: all, or the candidates and then the sequence's own.
struct RocketArgs {
  DecodeArgs decode;
  int32_t num_kv_heads;  ///< without the passes
  int32_t heads;         ///< query heads of a KV head
  int32_t kv_dtype;

  char* bounds;
  int64_t bounds_page_bytes;
  int32_t bound_kind;
  int32_t slot_shift;  ///< log2 of a page's tokens

  int32_t topk;
  int32_t num_channels;
  int32_t sink_pages;
  int32_t recent_pages;
  uint32_t flags;

  /// [num_seqs], or null: null (all pages), or the page from which on all are candidates, and for
  /// each KV head, candidates_stride apart and candidates_offset after it, how many are before
  /// that, and which.
  const int32_t* const* candidates;
  int64_t candidates_offset;
  int64_t candidates_stride;

  float* logits;        ///< [num_seqs, num_kv_heads, max_entries, heads], log2 domain
  float* stats;         ///< [num_seqs, num_kv_heads, max_entries / kScoreBlock, heads, 2]: maximum,
                        ///< sum of 2^(logit - maximum)
  int32_t max_entries;  ///< a multiple of kScoreBlock

  int32_t* slots;        ///< [num_seqs, num_kv_heads, topk]: DecodeArgs::slots
  int32_t* lengths;      ///< [num_seqs] tokens of a sequence's longest list
  int32_t* row_lengths;  ///< [num_seqs, num_kv_heads] of each
  int32_t* pages;        ///< [num_seqs, num_kv_heads, pages_stride] or null
  int64_t pages_stride;
  int32_t* count;  ///< [num_seqs, num_kv_heads] or null
  float* ranks;    ///< [num_seqs, num_kv_heads, ranks_stride] or null
  int64_t ranks_stride;
};

}  // namespace foveal::kernels::cuda

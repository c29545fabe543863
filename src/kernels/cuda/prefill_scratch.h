#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <optional>

#include "base/math.h"

// Prefill over an e4m3 cache, or with votes in int8: a pass before the kernel lays keys (and
// values) out in scratch memory of the workspace, a KV head after the other, and in a head every
// sequence from a multiple of `unit` rows on. A call that does not fit goes in pieces, which no
// result depends on.

namespace foveal::kernels::cuda {

/// What is asked for at most, unless one head of one sequence takes more.
inline constexpr int64_t kScratchMost = int64_t{512} << 20;
inline constexpr int64_t kPrefillCounterBytes = 256;  ///< counters of work, in two lines
inline constexpr int64_t kVoteCounterAt = 128;        ///< of the kernel that votes

/// The sizes of a call that scratch follows from.
struct ScratchShape {
  int64_t num_seqs = 1;
  int64_t num_kv_heads = 1;
  int64_t max_kv_len = 0;
  int64_t total_kv_len = 0;  ///< 0: num_seqs * max_kv_len
  int64_t key_bytes = 0;     ///< of one key of one head, as laid out
  int64_t kept_bytes = 0;    ///< of the tiles that are kept, for the whole call
  int64_t unit = 128;        ///< a tile of keys, or several
};

/// A piece: so many sequences and KV heads, and rows a head.
struct ScratchPiece {
  int64_t num_seqs = 0;
  int64_t num_kv_heads = 0;
  int64_t rows = 0;
};

/// Counters, then where each sequence begins, [num_seqs + 1] int32.
inline int64_t kept_offset(int64_t num_seqs) {
  return kPrefillCounterBytes + round_up((num_seqs + 1) * int64_t{sizeof(int32_t)}, 256);
}
/// Then the tiles that are kept, and then the keys.
inline int64_t scratch_offset(const ScratchShape& shape) {
  return kept_offset(shape.num_seqs) + round_up(shape.kept_bytes, 256);
}

/// Of the longest sequence there may be.
inline int64_t scratch_rows_of_one(const ScratchShape& shape) {
  return round_up(std::max<int64_t>(shape.max_kv_len, 1), shape.unit);
}

inline int64_t scratch_rows_of_all(const ScratchShape& shape) {
  const int64_t most = shape.num_seqs * scratch_rows_of_one(shape);
  if (shape.total_kv_len == 0) return most;
  return std::min(most,
                  round_up(shape.total_kv_len + shape.num_seqs * (shape.unit - 1), shape.unit));
}

inline int64_t least_scratch_bytes(const ScratchShape& shape) {
  return scratch_offset(shape) + scratch_rows_of_one(shape) * shape.key_bytes;
}

/// The whole call, or kScratchMost.
inline int64_t wanted_scratch_bytes(const ScratchShape& shape) {
  const std::optional<int64_t> all =
      checked_mul(scratch_rows_of_all(shape), shape.num_kv_heads * shape.key_bytes);
  const int64_t rows = std::min(all.value_or(kScratchMost), kScratchMost);
  return std::max(scratch_offset(shape) + rows, least_scratch_bytes(shape));
}

/// For calls over one pool of pages, one after the other: the same for all of them, unless the
/// longest sequence takes more than kScratchMost. So that memory which is never given back is
/// taken once, and not in steps while prompts grow.
inline int64_t pool_scratch_bytes(const ScratchShape& shape, int64_t pool_keys) {
  ScratchShape most = shape;
  most.max_kv_len = most.total_kv_len = pool_keys;
  return std::max(wanted_scratch_bytes(shape),
                  std::min(wanted_scratch_bytes(most), scratch_offset(shape) + kScratchMost));
}

/// The largest piece for `bytes` of workspace, which are at least least_scratch_bytes: all
/// sequences of some heads, or else some sequences of one.
inline ScratchPiece choose_piece(const ScratchShape& shape, int64_t bytes) {
  const int64_t rows = std::min<int64_t>((bytes - scratch_offset(shape)) / shape.key_bytes,
                                         std::numeric_limits<int32_t>::max());
  const int64_t all = scratch_rows_of_all(shape);
  if (rows < all) {
    const int64_t one = scratch_rows_of_one(shape);
    const int64_t seqs = std::min(shape.num_seqs, rows / one);
    return {.num_seqs = seqs, .num_kv_heads = 1, .rows = seqs * one};
  }
  // Pieces of one size: the last is not left with a head of its own.
  const int64_t pieces = ceil_div(shape.num_kv_heads, std::min(shape.num_kv_heads, rows / all));
  return {.num_seqs = shape.num_seqs,
          .num_kv_heads = ceil_div(shape.num_kv_heads, pieces),
          .rows = all};
}

}  // namespace foveal::kernels::cuda

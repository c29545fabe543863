#pragma once

#include <cstddef>
#include <cstdint>

// The arithmetic of paged decode that host and device share: tile geometry, how work is cut into
// chunks and handed to CTAs, and the layout of the workspace. All of it is constexpr, so that nvcc
// compiles it for the device as well.

namespace foveal::kernels::cuda {

inline constexpr int32_t kDecodeUnit = 16;      ///< keys a warp takes at a time (rows of one mma)
inline constexpr int32_t kDecodeVoteKeys = 64;  ///< keys of a Skip Softmax vote
inline constexpr int32_t kMaxGroup = 16;        ///< query heads of one KV head
inline constexpr int32_t kMaxSharedBytes = 227 * 1024;  ///< of a CTA on sm_90

/// What a kernel is compiled for.
struct DecodeShape {
  int32_t head_dim;
  int32_t kv_bytes;     ///< an element of K and V
  int32_t head_blocks;  ///< blocks of 8 query heads: 1 or 2

  /// Wide rows take few warps: the accumulators and the copies in flight are large as it is.
  constexpr int32_t warps() const { return head_dim <= 128 ? 8 : 4; }
  /// K or V of one unit.
  constexpr int32_t unit_bytes() const { return kDecodeUnit * head_dim * kv_bytes; }
  /// A row of a warp's result in shared memory; four floats of padding spread it over the banks.
  constexpr int32_t merge_row() const { return head_dim + 4; }
  constexpr int32_t merge_bytes() const {
    return warps() * 8 * head_blocks * (merge_row() + 2) * 4 + 64;
  }
  /// Units (K and V) in flight a warp: all that fits, for bandwidth is latency times bytes.
  constexpr int32_t stages() const {
    const int32_t fit = (kMaxSharedBytes - merge_bytes()) / (2 * unit_bytes() * warps());
    return fit > 8 ? 8 : fit;
  }
  constexpr int32_t ring_bytes() const { return stages() * 2 * unit_bytes() * warps(); }
  constexpr int32_t shared_bytes() const { return ring_bytes() + merge_bytes(); }
};

/// Keys [first_key, kv_len) of a row, in units at absolute positions, grouped into chunks of
/// `chunk_units` that lie at absolute positions too.
struct DecodeSpan {
  int32_t first_unit;  ///< a multiple of chunk_units
  int32_t end_unit;
  int32_t chunks;
};
constexpr int32_t first_visible_key(int32_t kv_len, int32_t window) {
  return window > 0 && kv_len > window ? kv_len - window : 0;
}
constexpr DecodeSpan decode_span(int32_t kv_len, int32_t window, int32_t chunk_units) {
  const int32_t first_chunk = first_visible_key(kv_len, window) / (kDecodeUnit * chunk_units);
  const int32_t end_unit = (kv_len + kDecodeUnit - 1) / kDecodeUnit;
  const int32_t end_chunk = (end_unit + chunk_units - 1) / chunk_units;
  return {first_chunk * chunk_units, end_unit, end_chunk - first_chunk};
}

/// All chunks of a call in one line (sequence, then KV head, then position), dealt to `workers` CTAs
/// in contiguous runs whose lengths differ by one at most.
struct DecodeDeal {
  int64_t chunks;
  int32_t workers;

  constexpr int64_t begin(int32_t worker) const { return worker * chunks / workers; }
  /// Who has this chunk.
  constexpr int32_t worker(int64_t chunk) const {
    return static_cast<int32_t>(((chunk + 1) * workers - 1) / chunks);
  }
};
/// No more CTAs than leave `min_chunks` to each: a split costs its share of the joining.
constexpr DecodeDeal decode_deal(int64_t chunks, int32_t min_chunks, int32_t grid) {
  const int64_t wanted = chunks / min_chunks;
  return {chunks, static_cast<int32_t>(wanted < 1 ? 1 : wanted < grid ? wanted : grid)};
}

/// Offsets into the workspace; sizes follow from the call's bounds alone.
struct DecodeWorkspace {
  size_t stats_offset;    ///< float2 [slots, group]: running maximum (log2) and sum
  size_t partial_offset;  ///< float [slots, group, head_dim]
  size_t bytes;           ///< arrival counters uint32 [num_seqs, num_kv_heads] come first
};
constexpr DecodeWorkspace decode_workspace(int64_t rows, int64_t slots, int32_t group,
                                           int32_t head_dim) {
  constexpr size_t kAlign = 256;
  const size_t stats = (static_cast<size_t>(rows) * 4 + kAlign - 1) / kAlign * kAlign;
  const size_t lines = static_cast<size_t>(slots) * static_cast<size_t>(group);
  const size_t partial = stats + (lines * 8 + kAlign - 1) / kAlign * kAlign;
  return {stats, partial, partial + lines * static_cast<size_t>(head_dim) * 4};
}

}  // namespace foveal::kernels::cuda

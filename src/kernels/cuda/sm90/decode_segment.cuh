#pragma once

#include "kernels/cuda/decode_plan.h"
#include "kernels/cuda/sm90/decode_args.h"

// Which part of which row a CTA works on. Everything is found from kv_len on the device, by each
// warp for itself, so that a captured graph replays with other lengths.

namespace foveal::kernels::cuda {

/// Keys of one KV head of one sequence that one CTA sums up.
struct Segment {
  int32_t seq = 0;
  int32_t head = 0;  ///< KV head, or a part of its query heads (DecodeArgs::passes)
  int32_t kv_len = 0;
  int32_t first_key = 0;   ///< visible through the window
  int32_t base_unit = 0;   ///< where its first chunk begins
  int32_t first_unit = 0;  ///< the first with a visible key, base_unit or later
  int32_t end_unit = 0;
  uint32_t first_chunk = 0;  ///< within the row; together with `chunks` it says which part this is
  uint32_t chunks = 0;       ///< of the whole row
  uint32_t row_start = 0;    ///< the row's first chunk among all chunks
  uint32_t whole = 0;        ///< 1: the segment is all of the row

  __device__ int32_t first_row_unit() const { return first_key / kDecodeUnit; }
  __device__ int32_t end_row_unit() const { return (kv_len + kDecodeUnit - 1) / kDecodeUnit; }
};

/// Walks the segments of a run of chunks. All lanes of a warp hold the same values.
class SegmentWalk {
 public:
  /// Moves on to the run [begin, end): its sequence is found with a scan over the lengths from
  /// where the walk is, so runs must come in ascending order.
  __device__ void start(const DecodeArgs& args, uint32_t begin, uint32_t end, int lane) {
    position_ = begin;
    end_ = end;
    if (begin >= end) return;
#pragma unroll 1
    while (true) {
      const int32_t seq = seq_ + lane;
      const uint32_t own = chunks_of(args, seq < args.num_seqs ? args.kv_len[seq] : 0);
      uint32_t sum = own;
#pragma unroll
      for (int step = 1; step < 32; step *= 2) {
        const uint32_t other = __shfl_up_sync(~0u, sum, step);
        if (lane >= step) sum += other;
      }
      const uint32_t beyond = __ballot_sync(~0u, seq_base_ + sum > begin);
      const int owner = beyond != 0 ? __ffs(static_cast<int>(beyond)) - 1 : 31;
      seq_base_ += __shfl_sync(~0u, beyond != 0 ? sum - own : sum, owner);
      seq_ += beyond != 0 ? owner : 32;
      if (beyond != 0) break;
    }
    enter(args);
  }

  /// The next segment, or false at the end of the run.
  __device__ bool next(const DecodeArgs& args, Segment& segment) {
    if (position_ >= end_) return false;
#pragma unroll 1
    while (position_ - seq_base_ >= span_.chunks * args.num_kv_heads) {
      seq_base_ += span_.chunks * args.num_kv_heads;
      ++seq_;
      enter(args);
    }
    const uint32_t row_chunks = span_.chunks;
    const uint32_t head = (position_ - seq_base_) / row_chunks;
    segment.row_start = seq_base_ + head * row_chunks;
    segment.first_chunk = position_ - segment.row_start;
    const uint32_t count =
        args.max_splits > 0 ? 1 : min(row_chunks - segment.first_chunk, end_ - position_);
    position_ += count;
    segment.seq = seq_;
    segment.head = static_cast<int32_t>(head);
    segment.kv_len = kv_len_;
    segment.first_key = first_visible_key(kv_len_, args.window);
    segment.chunks = row_chunks;
    segment.whole = count == row_chunks ? 1 : 0;
    segment.base_unit =
        span_.first_unit + static_cast<int32_t>(segment.first_chunk * args.chunk_units.divisor);
    segment.end_unit = min(
        segment.base_unit + static_cast<int32_t>(count * args.chunk_units.divisor), span_.end_unit);
    segment.first_unit = max(segment.base_unit, segment.first_row_unit());
    return true;
  }

  /// Chunks of a sequence over all KV heads.
  __device__ static uint32_t chunks_of(const DecodeArgs& args, int32_t kv_len) {
    const DecodeSpan span = decode_span(max(kv_len, 0), args.window, args.chunk_units);
    return span.chunks * static_cast<uint32_t>(args.num_kv_heads);
  }

 private:
  __device__ void enter(const DecodeArgs& args) {
    kv_len_ = seq_ < args.num_seqs ? max(args.kv_len[seq_], 0) : 0;
    span_ = decode_span(kv_len_, args.window, args.chunk_units);
  }

  uint32_t position_ = 0;
  uint32_t end_ = 0;
  uint32_t seq_base_ = 0;
  int32_t seq_ = 0;
  int32_t kv_len_ = 0;
  DecodeSpan span_{0, 0, 0};
};

/// Chunks of all sequences and heads. `kv_len` is that of sequence `lane`, 0 past the last.
__device__ inline uint32_t total_chunks(const DecodeArgs& args, int32_t kv_len, int lane) {
  uint32_t sum = SegmentWalk::chunks_of(args, kv_len);
#pragma unroll 1
  for (int32_t seq = lane + 32; seq < args.num_seqs; seq += 32)
    sum += SegmentWalk::chunks_of(args, args.kv_len[seq]);
  return __reduce_add_sync(~0u, sum);
}

}  // namespace foveal::kernels::cuda

#pragma once

#include "kernels/cuda/decode_plan.h"
#include "kernels/cuda/sm90/decode_args.h"

// Which part of which row a CTA works on. Everything is found from kv_len on the device, by each warp
// for itself, so that a captured graph replays with other lengths.

namespace foveal::kernels::cuda {

/// Keys of one KV head of one sequence that one CTA sums up.
struct Segment {
  int32_t seq = 0;
  int32_t head = 0;  ///< KV head
  int32_t kv_len = 0;
  int32_t first_key = 0;  ///< visible through the window
  int32_t first_unit = 0;
  int32_t end_unit = 0;
  int32_t first_chunk = 0;  ///< within the row; together with `chunks` it says which part this is
  int32_t chunks = 0;       ///< of the whole row
  bool whole = false;       ///< the segment is all of the row
  int64_t row_start = 0;    ///< the row's first chunk among all chunks
};

/// Walks the segments of a run of chunks. All lanes of a warp hold the same values.
class SegmentWalk {
 public:


  /// Places the walk at `begin`; finds its sequence with one scan over the lengths.
  __device__ void start(const DecodeArgs& args, int64_t begin, int64_t end, int lane) {
    position_ = begin;
    end_ = end;
    if (begin >= end) return;
    int64_t base = 0;
    for (int32_t first = 0;; first += 32) {
      const int64_t own = row_chunks(args, first + lane) * args.num_kv_heads;
      int64_t sum = own;
#pragma unroll
      for (int step = 1; step < 32; step *= 2) {
        const int64_t other = __shfl_up_sync(~0u, sum, step);
        if (lane >= step) sum += other;
      }
      const uint32_t beyond = __ballot_sync(~0u, base + sum > begin);
      if (beyond != 0) {
        const int owner = __ffs(static_cast<int>(beyond)) - 1;
        seq_ = first + owner;
        seq_base_ = base + __shfl_sync(~0u, sum - own, owner);
        enter(args);
        return;
      }
      base += __shfl_sync(~0u, sum, 31);
    }
  }

  /// The next segment, or false at the end of the run.
  __device__ bool next(const DecodeArgs& args, Segment& segment) {
    if (position_ >= end_) return false;
    int64_t offset = position_ - seq_base_;
    while (offset >= static_cast<int64_t>(span_.chunks) * args.num_kv_heads) {
      seq_base_ += static_cast<int64_t>(span_.chunks) * args.num_kv_heads;
      ++seq_;
      enter(args);
      offset = position_ - seq_base_;
    }
    segment.seq = seq_;
    segment.head = static_cast<int32_t>(static_cast<uint32_t>(offset) / static_cast<uint32_t>(span_.chunks));
    segment.first_chunk = static_cast<int32_t>(offset) - segment.head * span_.chunks;
    const int64_t left = end_ - position_;
    int32_t count = span_.chunks - segment.first_chunk;
    if (left < count) count = static_cast<int32_t>(left);
    if (args.max_splits > 0) count = 1;
    segment.row_start = seq_base_ + static_cast<int64_t>(segment.head) * span_.chunks;
    segment.kv_len = kv_len_;
    segment.first_key = first_visible_key(kv_len_, args.window);
    segment.chunks = span_.chunks;
    segment.whole = count == span_.chunks;
    segment.first_unit = span_.first_unit + segment.first_chunk * args.chunk_units;
    segment.end_unit = min(segment.first_unit + count * args.chunk_units, span_.end_unit);
    segment.first_unit = max(segment.first_unit, segment.first_key / kDecodeUnit);
    position_ += count;
    return true;
  }

  /// Chunks of sequence `seq` a KV head; 0 past the last.
  __device__ static int64_t row_chunks(const DecodeArgs& args, int32_t seq) {
    const int32_t kv_len = seq < args.num_seqs ? args.kv_len[seq] : 0;
    return kv_len > 0 ? decode_span(kv_len, args.window, args.chunk_units).chunks : 0;
  }

 private:
  __device__ void enter(const DecodeArgs& args) {
    kv_len_ = seq_ < args.num_seqs ? args.kv_len[seq_] : 0;
    span_ = decode_span(kv_len_ > 0 ? kv_len_ : 0, args.window, args.chunk_units);
    if (kv_len_ <= 0) span_.chunks = 0;
  }

  int64_t position_ = 0;
  int64_t end_ = 0;
  int64_t seq_base_ = 0;
  int32_t seq_ = 0;
  int32_t kv_len_ = 0;
  DecodeSpan span_{0, 0, 0};
};

/// Chunks of all sequences and heads.
__device__ inline int64_t total_chunks(const DecodeArgs& args, int lane) {
  int64_t sum = 0;
  for (int32_t seq = lane; seq < args.num_seqs; seq += 32) sum += SegmentWalk::row_chunks(args, seq);
#pragma unroll
  for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(~0u, sum, step);
  return sum * args.num_kv_heads;
}

}  // namespace foveal::kernels::cuda

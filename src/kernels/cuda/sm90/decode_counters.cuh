#pragma once

#include "kernels/cuda/sm90/decode_segment.cuh"

// What a call adds to foveal_attention_params.counters. Integers, so the order of the CTAs does not
// show.

namespace foveal::kernels::cuda {

__device__ inline void count(const DecodeArgs& args, int32_t seq, int which, int64_t by) {
  atomicAdd(args.counters + static_cast<int64_t>(seq) * 4 + which,
            static_cast<unsigned long long>(by));
}

/// By one thread, for each segment: the one that begins the row counts all of it. Without votes
/// every pair is used.
__device__ inline void count_row(const DecodeArgs& args, const Segment& segment, bool voted) {
  if (args.counters == nullptr || segment.first_chunk != 0) return;
  const int64_t pairs = static_cast<int64_t>(segment.kv_len - segment.first_key) * args.group;
  const int32_t tiles = (segment.kv_len + kDecodeVoteKeys - 1) / kDecodeVoteKeys -
                        segment.first_key / kDecodeVoteKeys;
  count(args, segment.seq, 0, pairs);
  if (!voted) count(args, segment.seq, 1, pairs);
  count(args, segment.seq, 2, tiles);
}

/// Tiles of a segment whose V was not read. Kept in registers whether asked for or not: two
/// additions a step.
struct DropCount {
  int32_t tiles = 0;
  int32_t keys = 0;

  __device__ void add(int32_t visible) {
    ++tiles;
    keys += visible;
  }
  __device__ void write(const DecodeArgs& args, const Segment& segment) const {
    if (args.counters == nullptr) return;
    const int32_t first = max(segment.base_unit * kDecodeUnit, segment.first_key);
    const int32_t end = min(segment.end_unit * kDecodeUnit, segment.kv_len);
    count(args, segment.seq, 1, static_cast<int64_t>(end - first - keys) * args.group);
    count(args, segment.seq, 3, tiles);
  }
};

}  // namespace foveal::kernels::cuda

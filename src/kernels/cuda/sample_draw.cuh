#pragma once

#include "kernels/cuda/device/philox.cuh"
#include "kernels/cuda/device/reduce.cuh"
#include "kernels/cuda/sample_row.cuh"

// The draw from what a row keeps: running sums in double over the ids in their order.

namespace foveal::kernels::cuda::sampling {

/// Ids in order of block, warp and lane: each lane holds a run of them.
struct Draw {
  const Slice& slice;
  const Row& row;
  const Kept& kept;

  __device__ int per_lane() const { return (slice.len + kThreads - 1) / kThreads; }
  __device__ double weight_at(int at) const {
    if (at >= slice.len || !row.keeps(kept, slice.logits[at], slice.begin + at)) return 0;
    const double weight = row.weight(slice.logits[at]);
    return weight < kept.min_weight ? 0 : weight;
  }
  /// The lane's own run, from an element of its own on, which keeps lanes off each other's banks.
  __device__ double lane_sum() const {
    const int begin = static_cast<int>(threadIdx.x) * per_lane();
    int at = static_cast<int>(threadIdx.x % 32) % max(per_lane(), 1);
    double sum = 0;
    for (int i = 0; i < per_lane(); ++i) {
      sum += weight_at(begin + at);
      at = at + 1 == per_lane() ? 0 : at + 1;
    }
    return sum;
  }
  /// The lane at which `before` plus the running sum of `own` exceeds `goal`, else the last one
  /// with anything; `before` becomes the sum before it.
  __device__ int find_lane(double own, double goal, double& before) const {
    const int lane = static_cast<int>(threadIdx.x % 32);
    const double running = warp_prefix_sum(own, lane);
    const unsigned hit = __ballot_sync(0xffffffffU, own > 0 && before + running > goal);
    const unsigned alive = __ballot_sync(0xffffffffU, own > 0);
    const int found = hit != 0 ? __ffs(static_cast<int>(hit)) - 1
                               : 31 - __clz(static_cast<int>(alive));  // -1: nothing
    const double sum = __shfl_sync(0xffffffffU, running, max(found - 1, 0));
    if (found > 0) before += sum;
    return hit != 0 || alive == 0 ? found : found | 32;
  }
  /// Called by one whole warp: the id at which the sum exceeds `goal`.
  __device__ int find(double own, double before, double goal) const {
    const int lane = static_cast<int>(threadIdx.x % 32);
    const int run = find_lane(own, goal, before) & 31;
    const int begin = (static_cast<int>(threadIdx.x) / 32 * 32 + run) * per_lane();
    int last = slice.begin + begin;
    for (int at = 0; at < per_lane(); at += 32) {
      const double weight = at + lane < per_lane() ? weight_at(begin + at + lane) : 0;
      const double block_before = before;
      const int found = find_lane(weight, goal, before);
      if (found >= 0) last = slice.begin + begin + at + (found & 31);
      if (found >= 0 && found < 32) break;
      double all = weight;
#pragma unroll
      for (int step = 16; step > 0; step /= 2) all += __shfl_xor_sync(0xffffffffU, all, step);
      before = block_before + all;
    }
    return last;
  }
};

__device__ inline double uniform_draw(uint64_t seed, uint64_t index) {
  const uint4 words =
      philox4x32({static_cast<uint32_t>(index), static_cast<uint32_t>(index >> 32), 0, 0},
                 {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)});
  const uint64_t bits = static_cast<uint64_t>(words.x) << 32 | words.y;
  return static_cast<double>(bits >> 11) * 0x1p-53;
}

/// Returns the token in every thread.
__device__ inline int draw_token(Team& team, const Slice& slice, const Row& row, const Kept& kept) {
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const Draw draw{slice, row, kept};
  const double lane_sum = draw.lane_sum();
  double own = lane_sum;
#pragma unroll
  for (int step = 16; step > 0; step /= 2) own += __shfl_xor_sync(0xffffffffU, own, step);
  if (threadIdx.x % 32 == 0) team.shared.weights[warp] = own;
  team.cluster.sync();
  constexpr int kAll = kCluster * kWarps;
  double* all = team.shared.all_weights;
  if (const int at = static_cast<int>(threadIdx.x); at < kAll) {
    all[at] = team.of(at / kWarps).weights[at % kWarps];
  }
  __syncthreads();
  double total = 0;
  double before = 0;  // of this warp
  int last = 0;       // the last warp with anything
  const int self = team.rank * kWarps + warp;
  for (int other = 0; other < kAll; ++other) {
    if (other == self) before = total;
    total += all[other];
    if (all[other] > 0) last = other;
  }
  const double goal = uniform_draw(row.params.seed, row.params.index) * total;
  // Exactly one warp: running sums are the same numbers everywhere.
  const bool mine = own > 0 && before <= goal && (before + own > goal || self == last);
  unsigned long long token = 0;
  if (mine) token = static_cast<unsigned long long>(draw.find(lane_sum, before, goal) + 1);
  return static_cast<int>(team.reduce(token, Max())) - 1;
}

}  // namespace foveal::kernels::cuda::sampling

#pragma once

#include <cooperative_groups.h>

#include <cstdint>

#include "kernels/cuda/device/reduce.cuh"
#include "kernels/cuda/sample.h"

// What sample.cu is written in: one row of logits spread over a cluster of blocks, and how the
// blocks agree on sums, maxima and thresholds.

namespace foveal::kernels::cuda::sampling {

namespace cg = cooperative_groups;

constexpr int kCluster = 8;
constexpr int kThreads = 512;
constexpr int kWarps = kThreads / 32;
constexpr int kBins = 2048;
constexpr int kBinsPerBlock = kBins / kCluster;
constexpr int kSlots = 48;  ///< exchanges of a row: at most about 30
constexpr int kNoBin = -1;
constexpr int kMembers = 1024;  ///< entries of one bin that are sorted at once

/// Shared memory of a block beside its slice of the row.
struct Shared {
  unsigned long long histogram[kBins];
  unsigned long long slots[kSlots];  ///< what this block says in each exchange
  double weights[kWarps];            ///< each warp's share of the draw
  double all_weights[kCluster * kWarps];
  unsigned long long parts[kWarps];
  unsigned long long before;
  /// Entries of the bin that matters, (order_key, complement of id): the better, the larger.
  unsigned long long members[kMembers];
  unsigned long long sorted[kMembers];
  unsigned long long last;  ///< the last one that is kept
  unsigned num_members;
  int bin;
};

/// Order of floats as unsigned integers, with -0 equal to +0.
__device__ __forceinline__ uint32_t order_key(float x) {
  const uint32_t bits = __float_as_uint(x + 0.0F);
  return (bits & 0x80000000U) != 0 ? ~bits : bits | 0x80000000U;
}

__device__ __forceinline__ float key_float(uint32_t key) {
  return __uint_as_float((key & 0x80000000U) != 0 ? key ^ 0x80000000U : ~key);
}

struct Sum {
  __device__ unsigned long long operator()(unsigned long long a, unsigned long long b) const {
    return a + b;
  }
};
struct Max {
  __device__ unsigned long long operator()(unsigned long long a, unsigned long long b) const {
    return a > b ? a : b;
  }
};

/// The cluster's blocks, in step. Every thread of every block makes the same calls.
struct Team {
  cg::cluster_group cluster;
  Shared& shared;
  int rank;
  int slot = 0;

  __device__ explicit Team(Shared& own)
      : cluster(cg::this_cluster()), shared(own), rank(static_cast<int>(cluster.block_rank())) {}

  __device__ Shared& of(int other) { return *cluster.map_shared_rank(&shared, other); }

  template <class Op>
  __device__ unsigned long long block_reduce(unsigned long long x, Op op) {
#pragma unroll
    for (int step = 16; step > 0; step /= 2) x = op(x, __shfl_xor_sync(0xffffffffU, x, step));
    __syncthreads();
    if (threadIdx.x % 32 == 0) shared.parts[threadIdx.x / 32] = x;
    __syncthreads();
    x = shared.parts[0];
    for (int warp = 1; warp < kWarps; ++warp) x = op(x, shared.parts[warp]);
    return x;
  }

  /// Every block's word, combined, to every thread. A slot is used once, so one barrier suffices.
  template <class Op>
  __device__ unsigned long long exchange(unsigned long long block_value, Op op) {
    if (threadIdx.x == 0) shared.slots[slot] = block_value;
    cluster.sync();
    unsigned long long x = of(0).slots[slot];
    for (int other = 1; other < kCluster; ++other) x = op(x, of(other).slots[slot]);
    ++slot;
    return x;
  }

  template <class Op>
  __device__ unsigned long long reduce(unsigned long long x, Op op) {
    return exchange(block_reduce(x, op), op);
  }

  __device__ void clear_histogram() {
    __syncthreads();  // what find_bin left has been read
    for (int bin = static_cast<int>(threadIdx.x); bin < kBins; bin += kThreads) {
      shared.histogram[bin] = 0;
    }
    if (threadIdx.x == 0) {
      shared.bin = kNoBin;
      shared.num_members = 0;
    }
    __syncthreads();
  }

  /// With all histograms filled: the first bin at which the running sum reaches the goal.
  /// shared.bin and shared.before (the sum of the bins before it) are set in every block; kNoBin
  /// when the whole is less.
  __device__ void find_bin(double goal) {
    cluster.sync();
    const int own = static_cast<int>(threadIdx.x);
    unsigned long long sum = 0;
    if (own < kBinsPerBlock) {
      for (int other = 0; other < kCluster; ++other) {
        sum += of(other).histogram[rank * kBinsPerBlock + own];
      }
    }
    const unsigned long long inclusive = scan_block(sum);
    if (own == kBinsPerBlock - 1) shared.slots[slot] = inclusive;
    cluster.sync();
    unsigned long long base = 0;
    for (int other = 0; other < rank; ++other) base += of(other).slots[slot];
    ++slot;
    if (own < kBinsPerBlock) {
      const unsigned long long before = base + inclusive - sum;
      if (static_cast<double>(base + inclusive) >= goal && static_cast<double>(before) < goal) {
        for (int other = 0; other < kCluster; ++other) {
          of(other).bin = rank * kBinsPerBlock + own;
          of(other).before = before;
        }
      }
    }
    cluster.sync();
  }

  /// Inclusive sums over the block's threads.
  __device__ unsigned long long scan_block(unsigned long long x) {
    const int lane = static_cast<int>(threadIdx.x % 32);
    x = warp_prefix_sum(x, lane);
    __syncthreads();
    if (lane == 31) shared.parts[threadIdx.x / 32] = x;
    __syncthreads();
    for (unsigned warp = 0; warp < threadIdx.x / 32; ++warp) x += shared.parts[warp];
    return x;
  }
};

/// As in sampler/choice.cc: what is further down than e^-60 is never drawn.
constexpr float kFarthest = 60;
/// A block's part of the row.
struct Slice {
  float* logits;
  int begin;  ///< id of its first entry
  int len;
};

/// What is kept: entries better than (key, id), itself included, of weight at least min_weight.
struct Kept {
  uint32_t key = 0;
  int id = 0x7fffffff;
  double min_weight = 0;
};

struct Row {
  SampleRow params;
  float max = 0;
  double inverse = 0;       ///< 1 / temperature
  float inverse_float = 0;  ///< likewise, finite

  /// Monotone in the logit; float32 suffices to choose bins.
  __device__ float score(float logit) const { return (max - logit) * inverse_float; }
  __device__ double weight(float logit) const {
    return exp((double{logit} - double{max}) * inverse);
  }
  __device__ bool keeps(const Kept& kept, float logit, int id) const {
    if (!(score(logit) <= kFarthest)) return false;
    const uint32_t key = order_key(logit);
    return key > kept.key || (key == kept.key && id <= kept.id);
  }
};

}  // namespace foveal::kernels::cuda::sampling

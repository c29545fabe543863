#pragma once

#include "kernels/cuda/device/reduce.cuh"
#include "kernels/cuda/sm90/top_k_row.cuh"

namespace foveal::kernels::cuda::top_k {

inline constexpr int kLog2Bins = 11;
inline constexpr int kBins = 1 << kLog2Bins;
inline constexpr uint32_t kNoBin = ~0U;

/// Shared memory that threads agree through.
struct Scratch {
  uint32_t sums[kWarps];
  uint32_t lows[kWarps];
  uint32_t highs[kWarps];
  uint32_t bin;    ///< the one that was looked for, or kNoBin
  uint32_t above;  ///< entries in the bins above it
  uint32_t inside;
};

/// `bins` are counts; finds the bin, from the highest, that holds the `rank`-th entry (from 1).
/// Called by all after a barrier; scratch.bin is kNoBin before. Ends with a barrier. Not inlined:
/// what runs twice is fetched once.
__device__ __noinline__ void find_bin(const uint32_t* bins, uint32_t rank, Scratch& scratch) {
  static_assert(kBins == 4 * kThreads);
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const auto place = kThreads - 1 - static_cast<int>(threadIdx.x);
  const uint4 words = reinterpret_cast<const uint4*>(bins)[place];
  const uint32_t own[4] = {words.w, words.z, words.y, words.x};
  const uint32_t sum = own[0] + own[1] + own[2] + own[3];
  const uint32_t through = warp_prefix_sum(sum, lane);
  if (lane == 31) scratch.sums[warp] = through;
  __syncthreads();
  uint32_t above = __reduce_add_sync(~0U, lane < warp ? scratch.sums[lane] : 0U) + through - sum;
  if (above < rank && rank <= above + sum) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (above < rank && rank <= above + own[i]) {
        scratch.bin = static_cast<uint32_t>(place * 4 + 3 - i);
        scratch.above = above;
        scratch.inside = own[i];
      }
      above += own[i];
    }
  }
  __syncthreads();
}

/// How far to shift so that numbers up to `range` fall into kBins bins.
__device__ inline int shift_of(uint32_t range) {
  return max(0, 32 - __clz(static_cast<int>(range)) - kLog2Bins);
}

struct Gate {
  uint32_t key;   ///< about `rank` of the samples are not below it; 0: there are no samples
  uint32_t high;  ///< the greatest sample
};

/// A sample's key; 0 for none and for NaN.
__device__ inline uint32_t sample_key(float value) {
  return value == value ? number_key(value) : 0;
}

/// A guess from the CTA's samples, the same in all threads. `samples` [groups][kThreads] are each
/// thread's own, in shared memory, with no_value() where there is none. `bins` are 0 and
/// scratch.bin is kNoBin before, and not after.
__device__ inline Gate guess_gate(const float4* samples, int groups, uint32_t rank, uint32_t* bins,
                                  Scratch& scratch) {
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int own_samples = groups * kThreads * 4;
  const auto* own = reinterpret_cast<const float*>(samples + threadIdx.x);
  const auto each = [&](auto visit) {
#pragma unroll 1
    for (int at = 0; at < own_samples; at += kThreads * 4) {
      const float4 four = *reinterpret_cast<const float4*>(own + at);
      visit(sample_key(four.x));
      visit(sample_key(four.y));
      visit(sample_key(four.z));
      visit(sample_key(four.w));
    }
  };
  uint32_t own_high = 0;
  uint32_t below_own_low = ~0U;
  each([&](uint32_t key) {
    own_high = max(own_high, key);
    below_own_low = min(below_own_low, key - 1);  // none: the greatest of all
  });
  // Of as many groups of samples as this each one's greatest is not below the least of those: so
  // many samples are not. What lies below that need not be counted, and the bins are the finer.
  uint32_t group_high = own_high;
  const int wanted = static_cast<int>(rank + rank / 4);
#pragma unroll 1
  for (int step = 1; step < 32 && 2 * step * wanted <= kThreads; step *= 2) {
    group_high = max(group_high, __shfl_xor_sync(~0U, group_high, step));
  }
  uint32_t own_low = group_high == 0 ? ~0U : group_high;
  if (wanted > kThreads) own_low = below_own_low;
  const uint32_t warp_low = __reduce_min_sync(~0U, own_low);
  const uint32_t warp_high = __reduce_max_sync(~0U, own_high);
  if (lane == 0) scratch.lows[warp] = warp_low, scratch.highs[warp] = warp_high;
  __syncthreads();
  const uint32_t low = __reduce_min_sync(~0U, scratch.lows[lane % kWarps]);
  const uint32_t high = __reduce_max_sync(~0U, scratch.highs[lane % kWarps]);
  if (high == 0) return {0, 0};
  const int shift = shift_of(high - low);
  each([&](uint32_t key) {
    if (key >= low) atomicAdd(&bins[(key - low) >> shift], 1U);
  });
  __syncthreads();
  find_bin(bins, rank, scratch);
  if (scratch.bin == kNoBin) return {low, high};
  // Within its bin as if that were evenly filled.
  const float beyond = __fdividef(static_cast<float>(scratch.above + scratch.inside - rank),
                                  static_cast<float>(scratch.inside));
  const float width = static_cast<float>(1U << shift);
  return {low + (scratch.bin << shift) + static_cast<uint32_t>(beyond * width), high};
}

/// The mean of 2^log2_count keys, by a warp.
__device__ inline uint32_t mean_key(const uint32_t* keys, int log2_count) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const uint32_t own = lane < 1 << log2_count ? keys[lane] : 0;
  const uint64_t sum =
      (uint64_t{__reduce_add_sync(~0U, own >> 16)} << 16) + __reduce_add_sync(~0U, own & 0xffffU);
  return static_cast<uint32_t>(sum >> log2_count);
}

}  // namespace foveal::kernels::cuda::top_k

#pragma once

#include <cooperative_groups.h>

#include <cstdint>
#include <type_traits>

#include "kernels/cuda/device/mbarrier.cuh"
#include "kernels/cuda/device/reduce.cuh"

// The k largest of float32 values by radix selection, exact: three passes over the values, each a
// histogram of 11 (11, 10) more bits of an order-preserving integer, find the k-th value's bits, or
// fewer if few values are left, which are compared with one another; a last pass writes what lies
// above it, and of what equals it the lowest indices, in ascending order.
// The values of a row are spread over a CTA, or in slices of equal length over those of a cluster.

namespace foveal::kernels::cuda {

/// Greater floats have greater keys; -0 and +0 have one, and NaN has that of -inf.
__device__ inline uint32_t order_key(float value) {
  const uint32_t bits = __float_as_uint(value == value ? value + 0.0F : -INFINITY);
  return (bits & 0x80000000U) != 0 ? ~bits : bits | 0x80000000U;
}

/// Values `stride` apart, in any memory.
struct StridedValues {
  const float* base;
  int64_t stride;
  __device__ uint32_t key(int32_t at) const { return order_key(base[at * stride]); }
};

template <int kThreads, bool kCluster>
class RadixSelect {
  static constexpr int kBins = 2048;
  static constexpr int kWarps = kThreads / 32;
  static constexpr int kOwnBins = kBins / kThreads;
  static constexpr uint32_t kFew = 64;
  static_assert(kBins % kThreads == 0 && kWarps <= 32);

 public:
  struct Shared {
    alignas(16) uint32_t bins[kBins];
    uint32_t sums[kWarps];
    uint32_t found[3];          ///< bin, values above it, values in it
    uint32_t taken[kWarps][2];  ///< above and equal to the threshold, of each warp's values
    uint32_t slice[2];          ///< the same of the CTA
    uint32_t few[kFew];         ///< keys that are left, of all CTAs
    uint32_t listed;            ///< where the CTA's next one goes
    uint32_t kth[2];            ///< of those: its key, and how many equal it from there on
  };
  /// Taken are the keys above `key`, and the first `ties` that equal it.
  struct Threshold {
    uint32_t key;
    uint32_t ties;
  };

  /// `shared` lies at the same place in every CTA of the cluster.
  __device__ explicit RadixSelect(Shared& shared)
      : shared_(shared),
        warp_(static_cast<int>(threadIdx.x) / 32),
        lane_(static_cast<int>(threadIdx.x) % 32) {}

  /// Of this CTA's `count` values, whose keys have `width` bits; all CTAs come with the same k,
  /// which is at most the number of all values and at least 1.
  template <class Values>
  __device__ Threshold threshold(const Values& values, int32_t count, uint32_t k, int width = 32) {
    uint32_t prefix = 0;
    int shift = width;
#pragma unroll 1
    while (shift > 0) {
      const int bits = min(shift, 11);
      const int upper = shift;
      shift -= bits;
      clear();
      count_bins(values, count, prefix, upper, shift, (1U << bits) - 1);
      find(k);
      prefix = prefix << bits | shared_.found[0];
      k -= shared_.found[1];
      if (shared_.found[2] == k) return {prefix << shift, ~0U};  // all of the bin
      if (shift > 0 && shared_.found[2] <= kFew) return among_few(values, count, prefix, shift, k);
    }
    return {prefix, k};
  }

  /// put(position among those taken, index within the slice) for each value taken, in no order.
  template <class Values, class Put>
  __device__ void emit(const Values& values, int32_t count, const Threshold& threshold, Put put) {
    const int32_t per_warp = (count + kThreads - 1) / kThreads * 32;
    const int32_t begin = warp_ * per_warp;
    const int32_t end = min(begin + per_warp, count);
    uint32_t above = 0;
    uint32_t equal = 0;
#pragma unroll 1
    for (int32_t at = begin + lane_; at < end; at += 32) {
      const uint32_t key = values.key(at);
      above += key > threshold.key ? 1 : 0;
      equal += key == threshold.key ? 1 : 0;
    }
    above = __reduce_add_sync(~0U, above);
    equal = __reduce_add_sync(~0U, equal);
    if (lane_ == 0) shared_.taken[warp_][0] = above, shared_.taken[warp_][1] = equal;
    __syncthreads();
    before(above, equal);
    const uint32_t lower = (1U << lane_) - 1;
#pragma unroll 1
    for (int32_t first = begin; first < end; first += 32) {
      const int32_t at = first + lane_;
      const uint32_t key = at < end ? values.key(at) : 0;
      const uint32_t is_above = __ballot_sync(~0U, at < end && key > threshold.key);
      const uint32_t is_equal = __ballot_sync(~0U, at < end && key == threshold.key);
      const uint32_t equal_before = equal + __popc(is_equal & lower);
      const bool tie = (is_equal >> lane_ & 1) != 0 && equal_before < threshold.ties;
      if (tie || (is_above >> lane_ & 1) != 0) {
        put(above + __popc(is_above & lower) + min(equal_before, threshold.ties), at);
      }
      above += __popc(is_above);
      equal += __popc(is_equal);
    }
    __syncwarp();
    if constexpr (kCluster) wait_for_readers();
  }

 private:
  /// Until all CTAs have read what they want of this one. What was read is there, so nothing has to
  /// be ordered: a barrier that does is a fence of the whole GPU.
  __device__ static void wait_for_readers() {
    foveal::cuda::cluster_arrive_relaxed();
    foveal::cuda::cluster_wait();
  }

  __device__ void clear() {
#pragma unroll
    for (int i = 0; i < kOwnBins; ++i) shared_.bins[i * kThreads + threadIdx.x] = 0;
    __syncthreads();
  }

  template <class Values>
  __device__ void count_bins(const Values& values, int32_t count, uint32_t prefix, int upper,
                             int shift, uint32_t mask) {
#pragma unroll 1
    for (int32_t first = warp_ * 32; first < count; first += kThreads) {
      const int32_t at = first + lane_;
      const uint32_t key = at < count ? values.key(at) : 0;
      const bool in = at < count && (upper == 32 || key >> upper == prefix);
      const uint32_t bin = in ? key >> shift & mask : ~0U;
      // Equal values, such as probabilities that are 0, would queue up at one counter.
      int same = 0;
      __match_all_sync(~0U, bin, &same);
      if (same != 0) {
        if (in && lane_ == 0) atomicAdd(&shared_.bins[bin], 32U);
      } else if (in) {
        atomicAdd(&shared_.bins[bin], 1U);
      }
    }
    __syncthreads();
  }

  /// The bin that holds the k-th largest value, and how many lie in bins above it.
  __device__ void find(uint32_t k) {
    uint32_t own[kOwnBins];
    uint32_t sum = 0;
    if constexpr (kCluster) cooperative_groups::this_cluster().sync();
    own_bins(own);
#pragma unroll
    for (int i = 0; i < kOwnBins; ++i) sum += own[i];
    const uint32_t through = warp_prefix_sum(sum, lane_);
    if (lane_ == 31) shared_.sums[warp_] = through;
    __syncthreads();
    uint32_t above =
        __reduce_add_sync(~0U, lane_ < warp_ ? shared_.sums[lane_] : 0U) + through - sum;
#pragma unroll
    for (int i = 0; i < kOwnBins; ++i) {
      if (above < k && k <= above + own[i]) {
        shared_.found[0] = kBins - 1 - threadIdx.x * kOwnBins - i;
        shared_.found[1] = above;
        shared_.found[2] = own[i];
      }
      above += own[i];
    }
    __syncthreads();
    if constexpr (kCluster) wait_for_readers();  // nobody clears or counts before
  }

  /// The k-th of those that begin with `prefix`, the bin found last.
  template <class Values>
  __device__ Threshold among_few(const Values& values, int32_t count, uint32_t prefix, int shift,
                                 uint32_t k) {
    const uint32_t inside = shared_.found[2];
    if (warp_ == 0) {
      uint32_t before = 0;
      if constexpr (kCluster) {
        const auto cluster = cooperative_groups::this_cluster();
        const auto from = static_cast<unsigned>(lane_);
        if (from < cluster.block_rank()) {
          before = cluster.map_shared_rank(shared_.bins, from)[shared_.found[0]];
        }
        before = __reduce_add_sync(~0U, before);
      }
      if (lane_ == 0) shared_.listed = before;
    }
    __syncthreads();
#pragma unroll 1
    for (auto at = static_cast<int32_t>(threadIdx.x); at < count; at += kThreads) {
      const uint32_t key = values.key(at);
      if (key >> shift != prefix) continue;
      const uint32_t place = atomicAdd(&shared_.listed, 1U);
      if constexpr (kCluster) {
        const auto cluster = cooperative_groups::this_cluster();
#pragma unroll 1
        for (unsigned rank = 0; rank < cluster.num_blocks(); ++rank) {
          cluster.map_shared_rank(shared_.few, rank)[place] = key;
        }
      } else {
        shared_.few[place] = key;
      }
    }
    if constexpr (kCluster) {
      cooperative_groups::this_cluster().sync();
    } else {
      __syncthreads();
    }
    if (threadIdx.x < inside) {
      const uint32_t own = shared_.few[threadIdx.x];
      uint32_t greater = 0;
      uint32_t equal = 0;
#pragma unroll 4
      for (uint32_t i = 0; i < inside; ++i) {
        greater += shared_.few[i] > own ? 1 : 0;
        equal += shared_.few[i] == own ? 1 : 0;
      }
      if (greater < k && k <= greater + equal) {
        shared_.kth[0] = own;
        shared_.kth[1] = k - greater;
      }
    }
    __syncthreads();
    return {shared_.kth[0], shared_.kth[1]};
  }

  /// This thread's bins, from the highest on, of all CTAs.
  __device__ void own_bins(uint32_t (&own)[kOwnBins]) {
    using Words = std::conditional_t<kOwnBins % 4 == 0, uint4, uint2>;
    constexpr int kPer = sizeof(Words) / sizeof(uint32_t);
    static_assert(kOwnBins % kPer == 0);
    const int place = (kBins / kOwnBins - 1 - static_cast<int>(threadIdx.x)) * (kOwnBins / kPer);
    const auto add = [&](const uint32_t* bins) {
#pragma unroll
      for (int part = 0; part < kOwnBins / kPer; ++part) {
        const Words words = reinterpret_cast<const Words*>(bins)[place + part];
        const auto* counts = reinterpret_cast<const uint32_t*>(&words);
#pragma unroll
        for (int i = 0; i < kPer; ++i) own[kOwnBins - 1 - part * kPer - i] += counts[i];
      }
    };
#pragma unroll
    for (int i = 0; i < kOwnBins; ++i) own[i] = 0;
    if constexpr (kCluster) {
      const auto cluster = cooperative_groups::this_cluster();
      for (unsigned rank = 0; rank < cluster.num_blocks(); ++rank) {
        add(cluster.map_shared_rank(shared_.bins, rank));
      }
    } else {
      add(shared_.bins);
    }
  }

  /// How many of the values before this warp's are above and equal to the threshold.
  __device__ void before(uint32_t& above, uint32_t& equal) {
    above = __reduce_add_sync(~0U, lane_ < warp_ ? shared_.taken[lane_][0] : 0U);
    equal = __reduce_add_sync(~0U, lane_ < warp_ ? shared_.taken[lane_][1] : 0U);
    if constexpr (kCluster) {
      const auto cluster = cooperative_groups::this_cluster();
      if (threadIdx.x == kThreads - 1) {
        shared_.slice[0] = above + shared_.taken[kWarps - 1][0];
        shared_.slice[1] = equal + shared_.taken[kWarps - 1][1];
      }
      cluster.sync();
      for (unsigned rank = 0; rank < cluster.block_rank(); ++rank) {
        above += cluster.map_shared_rank(shared_.slice, rank)[0];
        equal += cluster.map_shared_rank(shared_.slice, rank)[1];
      }
    }
  }

  Shared& shared_;
  int warp_;
  int lane_;
};

}  // namespace foveal::kernels::cuda

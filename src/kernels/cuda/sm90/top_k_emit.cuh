#pragma once

#include "kernels/cuda/device/reduce.cuh"
#include "kernels/cuda/sm90/top_k_choose.cuh"

namespace foveal::kernels::cuda::top_k {

inline constexpr int kWords = 4096;  ///< of the bitmap: one bit an index
inline constexpr int kWindow = kWords * 32;

/// Writes the indices of the candidates that `threshold` takes, ascending: marks them in
/// a bitmap, counts bits before each word, and then each finds its own place. `bitmap` is 0
/// before; `before` [kWords] and `staged` are shared memory.
struct Emit {
  const Candidates& candidates;
  Threshold threshold;
  uint32_t* bitmap;
  uint16_t* before;
  int32_t* staged;  ///< or null: straight to the output
  uint32_t* sums;   ///< [kWarps]

  __device__ void operator()(const Output& output, int32_t length, int32_t count) const {
    int32_t taken = 0;
#pragma unroll 1
    for (int32_t begin = 0; begin < length; begin += kWindow) {
      if (begin > 0) {
        __syncthreads();
        clear();
        __syncthreads();
      }
      visit(begin,
            [&](uint32_t place, uint32_t) { atomicOr(&bitmap[place / 32], 1U << (place % 32)); });
      __syncthreads();
      const int32_t here = count_before();
      visit(begin, [&](uint32_t place, uint32_t index) {
        const uint32_t lower = bitmap[place / 32] & ((1U << (place % 32)) - 1);
        const int32_t position = taken + before[place / 32] + __popc(lower);
        if (staged != nullptr) {
          staged[position] = static_cast<int32_t>(index);
        } else {
          output.put(position, static_cast<int32_t>(index));
        }
      });
      taken += here;
    }
    if (staged == nullptr) return;
    __syncthreads();
#pragma unroll 1
    for (auto at = static_cast<int32_t>(threadIdx.x); at < count; at += kThreads) {
      output.put(at, staged[at]);
    }
  }

 private:
  static constexpr int kOwn = kWords / kThreads;
  static_assert(kOwn % 8 == 0);

  template <class Visit>
  __device__ void visit(int32_t begin, Visit visit) const {
    candidates.for_each([&](uint32_t key, uint32_t index) {
      const uint32_t place = index - static_cast<uint32_t>(begin);
      if ((place < kWindow) & threshold.takes(key, index)) visit(place, index);
    });
  }
  __device__ void clear() const {
    auto* words = reinterpret_cast<uint4*>(bitmap);
#pragma unroll
    for (int i = 0; i < kOwn / 4; ++i) words[i * kThreads + threadIdx.x] = {0, 0, 0, 0};
  }
  /// Fills `before`; the number of all bits. Between two barriers.
  __device__ int32_t count_before() const {
    const int warp = static_cast<int>(threadIdx.x) / 32;
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const uint4* words = reinterpret_cast<const uint4*>(bitmap) + kOwn / 4 * threadIdx.x;
    uint32_t bits[kOwn];
    uint32_t sum = 0;
#pragma unroll
    for (int i = 0; i < kOwn / 4; ++i) {
      const uint4 four = words[i];
      const uint32_t own[4] = {four.x, four.y, four.z, four.w};
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        bits[4 * i + j] = sum;
        sum += __popc(own[j]);
      }
    }
    const uint32_t through = warp_prefix_sum(sum, lane);
    if (lane == 31) sums[warp] = through;
    __syncthreads();
    const uint32_t part = lane < kWarps ? sums[lane] : 0U;
    const uint32_t base = __reduce_add_sync(~0U, lane < warp ? part : 0U) + through - sum;
    auto* pairs = reinterpret_cast<uint32_t*>(before) + kOwn / 2 * threadIdx.x;
#pragma unroll
    for (int i = 0; i < kOwn / 8; ++i) {
      uint32_t packed[4];
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        packed[j] = (base + bits[8 * i + 2 * j]) | (base + bits[8 * i + 2 * j + 1]) << 16;
      }
      reinterpret_cast<uint4*>(pairs)[i] = {packed[0], packed[1], packed[2], packed[3]};
    }
    const uint32_t all = __reduce_add_sync(~0U, part);
    __syncthreads();
    return static_cast<int32_t>(all);
  }
};

}  // namespace foveal::kernels::cuda::top_k

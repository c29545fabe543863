#pragma once

#include <cstdint>

namespace foveal::kernels::cuda {

/// Sums over groups of `kLanes` neighbouring lanes, the same bits in every lane of a group.
template <int kLanes = 32>
__device__ __forceinline__ float group_sum(float x) {
#pragma unroll
  for (int step = kLanes / 2; step > 0; step /= 2) x += __shfl_xor_sync(0xffffffffU, x, step);
  return x;
}

/// Sum over this lane, which is `lane`, and those before it. Called by the whole warp.
template <class T>
__device__ __forceinline__ T warp_prefix_sum(T x, int lane) {
#pragma unroll
  for (int step = 1; step < 32; step *= 2) {
    const T other = __shfl_up_sync(~0U, x, step);
    if (lane >= step) x += other;
  }
  return x;
}

/// Everybody's value combined in a fixed order, to every thread of the block. `parts` [32] is
/// shared memory that nobody else uses between two barriers; x op `nothing` is x.
template <class T, class Op>
__device__ __forceinline__ T block_reduce(T x, T* parts, T nothing, const Op& op) {
  const auto reduce_warp = [&op](T value) {
#pragma unroll
    for (int step = 16; step > 0; step /= 2) {
      value = op(value, __shfl_xor_sync(0xffffffffU, value, step));
    }
    return value;
  };
  x = reduce_warp(x);
  const unsigned lane = threadIdx.x % 32;
  const unsigned num_warps = (blockDim.x + 31) / 32;
  if (lane == 0) parts[threadIdx.x / 32] = x;
  __syncthreads();
  return reduce_warp(lane < num_warps ? parts[lane] : nothing);
}

/// Sum over the block, as block_reduce.
__device__ __forceinline__ float block_sum(float x, float* parts) {
  return block_reduce(x, parts, 0.0F, [](float a, float b) { return a + b; });
}

}  // namespace foveal::kernels::cuda

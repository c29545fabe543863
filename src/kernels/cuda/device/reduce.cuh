#pragma once

namespace foveal::kernels::cuda {

/// Sums over groups of `kLanes` neighbouring lanes, the same bits in every lane of a group.
template <int kLanes = 32>
__device__ __forceinline__ float group_sum(float x) {
#pragma unroll
  for (int step = kLanes / 2; step > 0; step /= 2) x += __shfl_xor_sync(0xffffffffU, x, step);
  return x;
}

/// Sum over the block in a fixed order, to every thread. `parts` [32] is shared memory that nobody
/// else uses between two barriers.
__device__ __forceinline__ float block_sum(float x, float* parts) {
  x = group_sum(x);
  const unsigned lane = threadIdx.x % 32;
  const unsigned num_warps = (blockDim.x + 31) / 32;
  if (lane == 0) parts[threadIdx.x / 32] = x;
  __syncthreads();
  return group_sum(lane < num_warps ? parts[lane] : 0.0F);
}

}  // namespace foveal::kernels::cuda

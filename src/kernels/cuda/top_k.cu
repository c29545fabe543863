#include "foveal/kernels_rocket.h"
#include "kernels/cuda/device/pdl.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/radix_select.cuh"
#include "kernels/cuda/top_k_launch.h"

namespace foveal::kernels::cuda {
namespace {

constexpr int kTopKThreads = 1024;

// Computes: indices of the k largest values of each row, ascending; of equals the lowest.
// In/out: foveal_top_k_params.
// Units: values in float32.
// Launch: a cluster of 1 to 8 CTAs a row, each with an equal slice of the row's values, of which it
//   keeps up to `cached` in shared memory.
// Needs: sm_90.
// Numerics: exact; NaN counts as -inf, -0 equals +0.
// Source: radix selection; ours.
// Measured: docs/kernels/cuda_rocket.md.
template <bool kCluster>
__global__ void __launch_bounds__(kTopKThreads)
    top_k_kernel(const __grid_constant__ foveal_top_k_params params, int32_t cached) {
  using Select = RadixSelect<kTopKThreads, kCluster>;
  __shared__ typename Select::Shared shared;
  extern __shared__ float cache[];
  wait_for_previous();
  let_next_start();
  const int32_t row = static_cast<int32_t>(blockIdx.y);
  const int32_t length =
      params.lengths != nullptr
          ? min(max(params.lengths[row / params.rows_a_length], 0), params.max_length)
          : params.max_length;
  const int32_t count = min(params.k, length);
  int32_t* out = params.indices + row * params.indices_stride;
  const auto ctas = static_cast<int32_t>(gridDim.x);
  const auto rank = static_cast<int32_t>(blockIdx.x);
  if (rank == 0 && threadIdx.x == 0 && params.counts != nullptr) params.counts[row] = count;
  if (count == length) {
    for (int32_t at = rank * kTopKThreads + static_cast<int32_t>(threadIdx.x); at < count;
         at += ctas * kTopKThreads) {
      out[at] = at;
    }
    return;
  }
  const int32_t slice = (length + ctas - 1) / ctas;
  const int32_t begin = min(rank * slice, length);
  const int32_t own = min(slice, length - begin);
  const float* from = params.values + row * params.row_stride + begin;
  const bool fits = own <= cached;
  if (fits) {
    for (int32_t at = static_cast<int32_t>(threadIdx.x); at < own; at += kTopKThreads) {
      cache[at] = from[at];
    }
    __syncthreads();
  }
  const StridedValues values{fits ? cache : from, 1};
  Select select(shared);
  const typename Select::Threshold threshold =
      select.threshold(values, own, static_cast<uint32_t>(params.k));
  select.emit(values, own, threshold,
              [&](uint32_t position, int32_t at) { out[position] = begin + at; });
}

}  // namespace

void launch_top_k(const foveal_top_k_params& params, void* stream) {
  // A CTA goes through its slice some five times.
  constexpr int32_t kSlice = 16 * 1024;
  constexpr int32_t kMostCached = 48 * 1024;
  unsigned ctas = 1;
  while (ctas < 8 && static_cast<int64_t>(ctas) * kSlice < params.max_length) ctas *= 2;
  const int32_t slice =
      (params.max_length + static_cast<int32_t>(ctas) - 1) / static_cast<int32_t>(ctas);
  const int32_t cached = slice < kMostCached ? slice : kMostCached;
  const Grid grid{.blocks = dim3(ctas, static_cast<unsigned>(params.num_rows)),
                  .threads = dim3(kTopKThreads),
                  .shared_bytes = static_cast<size_t>(cached) * sizeof(float),
                  .cluster = ctas};
  launch("top_k", ctas > 1 ? top_k_kernel<true> : top_k_kernel<false>, grid, stream, params,
         cached);
}

}  // namespace foveal::kernels::cuda

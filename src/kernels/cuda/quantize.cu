// Computes: quantize_blocks: scale[c, row] = max |x[row, 128 c .. 128 c + 127]| / 448 (1 for
//           zeros), y = e4m3(x / scale), the last block up to k; quantize_rows: the same over whole
//           rows, scale[row]; quantize_tensor: y = e4m3(x / scale[0]), or e4m3(x) without a scale.
//           Rows from m to padded_m: zeros with scale 1.
// In/out:   x [m, k] bf16, row stride x_stride; y [m, k] e4m3, row stride y_stride; scale
//           [ceil(k / 128), scale_stride] float32: columns outermost, as cuBLASLt's 1 x 128 scales.
// Units:    elements.
// Launch:   256 threads, 16 lanes a block of 128 columns, 8 columns a lane; rows: a block a row.
// Needs:    k a multiple of 8, 16-byte rows of x, 8-byte rows of y.
// Numerics: float32; saturating at 448; NaN stays NaN.
// Source:   ours.
// Measured: H100, 2026-11-28: quantize_blocks, 8192 x 4096 72 us, 45 % of the read rate.
//           quantize_tensor in whole prompts with `use_fp8_context_fmha`, H200
//           (bench/results/2026-11-28-cuda-engine-h200.md). Of quantize_rows no figure was kept:
//           `bench_cuda_fp8 quantize` times it.

#include <algorithm>

#include "kernels/cuda/device/pdl.cuh"
#include "kernels/cuda/device/vec.cuh"
#include "kernels/cuda/elementwise_launch.h"
#include "kernels/cuda/launch.cuh"

namespace foveal::kernels::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kLanes = 16;  // times 8 columns: a block of 128

__global__ void __launch_bounds__(kThreads) quantize_blocks_kernel(QuantizeParams p) {
  let_next_start();
  wait_for_previous();
  const int64_t group = (int64_t{blockIdx.x} * kThreads + threadIdx.x) / kLanes;
  const int64_t blocks = (p.k + 127) / 128;
  const bool active = group < max(p.m, p.padded_m) * blocks;  // whole warps reach the shuffles
  const int64_t row = active ? group / blocks : 0;
  const int64_t block = active ? group - row * blocks : 0;
  const int64_t col = block * 128 + threadIdx.x % kLanes * 8;
  const bool inside = col < p.k;
  const Vec8 x = row < p.m && inside
                     ? load8(reinterpret_cast<const __nv_bfloat16*>(p.x), row * p.x_stride + col)
                     : Vec8{};
  float most = 0;
#pragma unroll
  for (int i = 0; i < 8; ++i) most = fmaxf(most, fabsf(x.v[i]));
#pragma unroll
  for (int step = kLanes / 2; step > 0; step /= 2) {
    most = fmaxf(most, __shfl_xor_sync(0xffffffffU, most, step));
  }
  const float scale = most > 0 ? most / 448.0F : 1.0F;
  if (!active) return;
  if (inside) store_e4m3(p.y + row * p.y_stride + col, x, scale);
  if (threadIdx.x % kLanes == 0) p.scale[block * p.scale_stride + row] = scale;
}

__global__ void __launch_bounds__(kThreads) quantize_rows_kernel(QuantizeParams p) {
  __shared__ float of_warp[kThreads / 32];
  let_next_start();
  wait_for_previous();
  const int64_t row = blockIdx.x;
  const auto* from = reinterpret_cast<const __nv_bfloat16*>(p.x) + row * p.x_stride;
  const int64_t end = row < p.m ? p.k : 0;
  float most = 0;
  for (int64_t col = int64_t{8} * threadIdx.x; col < end; col += int64_t{8} * kThreads) {
    const Vec8 x = load8(from, col);
#pragma unroll
    for (int i = 0; i < 8; ++i) most = fmaxf(most, fabsf(x.v[i]));
  }
#pragma unroll
  for (int step = 16; step > 0; step /= 2) {
    most = fmaxf(most, __shfl_xor_sync(0xffffffffU, most, step));
  }
  if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = most;
  __syncthreads();
#pragma unroll
  for (int warp = 0; warp < kThreads / 32; ++warp) most = fmaxf(most, of_warp[warp]);
  const float scale = most > 0 ? most / 448.0F : 1.0F;
  for (int64_t col = int64_t{8} * threadIdx.x; col < p.k; col += int64_t{8} * kThreads) {
    store_e4m3(p.y + row * p.y_stride + col, row < p.m ? load8(from, col) : Vec8{}, scale);
  }
  if (threadIdx.x == 0) p.scale[row] = scale;
}

__global__ void __launch_bounds__(kThreads) quantize_tensor_kernel(QuantizeParams p) {
  let_next_start();
  wait_for_previous();
  const int64_t item = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  const int64_t vecs = p.k / 8;
  if (item >= p.m * vecs) return;
  const int64_t row = item / vecs;
  const int64_t col = (item - row * vecs) * 8;
  const Vec8 x = load8(reinterpret_cast<const __nv_bfloat16*>(p.x), row * p.x_stride + col);
  store_e4m3(p.y + row * p.y_stride + col, x, p.scale == nullptr ? 1.0F : p.scale[0]);
}

Grid grid_of(int64_t threads) {
  return {.blocks = {static_cast<unsigned>((threads + kThreads - 1) / kThreads)},
          .threads = {kThreads}};
}

}  // namespace

void quantize_e4m3_blocks_launch(const QuantizeParams& params, void* stream) {
  launch("quantize_e4m3_blocks", quantize_blocks_kernel,
         grid_of(std::max(params.m, params.padded_m) * ((params.k + 127) / 128) * kLanes), stream,
         params);
}

void quantize_e4m3_rows_launch(const QuantizeParams& params, void* stream) {
  const auto rows = static_cast<unsigned>(std::max(params.m, params.padded_m));
  launch("quantize_e4m3_rows", quantize_rows_kernel, {.blocks = {rows}, .threads = {kThreads}},
         stream, params);
}

void quantize_e4m3_tensor_launch(const QuantizeParams& params, void* stream) {
  launch("quantize_e4m3_tensor", quantize_tensor_kernel, grid_of(params.m * (params.k / 8)), stream,
         params);
}

}  // namespace foveal::kernels::cuda

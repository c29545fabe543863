// Computes: y[i] = x[r] * rsqrt(mean(x[r]^2) + eps) * (weight + offset), r = rows[i] or i; or
//           added, times alpha, to a float32 y.
// In/out:   x [>= m, n] float32, row stride x_stride; weight [n] float32 or bf16; rows [m] or
//           null; y [m, n] float32, bf16 or f16, row stride y_stride.
// Units:    elements.
// Launch:   a block a row; n / 8 threads, at most 1024, 8 * kVecs values a thread in registers.
// Needs:    n and strides multiples of 8, n <= 32768, pointers aligned to 16 bytes.
// Numerics: float32; sum of squares per thread in order, then a butterfly: fixed by n alone, so a
//           row does not depend on its batch. Weights are read before the wait for the kernel
//           before.
// Source:   ours.
// Measured: H100, 2026-11-28, n 4096: 8192 rows 69 us, 94 % of the read rate; 1 row 1.6 us.

#include "kernels/cuda/device/pdl.cuh"
#include "kernels/cuda/device/reduce.cuh"
#include "kernels/cuda/device/vec.cuh"
#include "kernels/cuda/elementwise_launch.h"
#include "kernels/cuda/launch.cuh"

namespace foveal::kernels::cuda {
namespace {

template <int kVecs, class Weight, class Out>
__global__ void __launch_bounds__(1024) rms_norm_kernel(RmsNormParams p) {
  __shared__ float parts[32];
  let_next_start();
  const auto num_vecs = static_cast<int>(p.n / 8);
  const auto* weight = static_cast<const Weight*>(p.weight);
  Vec8 scale[kVecs];
#pragma unroll
  for (int i = 0; i < kVecs; ++i) {
    const int vec = static_cast<int>(threadIdx.x + i * blockDim.x);
    if (vec < num_vecs) scale[i] = load8(weight, vec * 8);
  }
  wait_for_previous();
  const int64_t row = blockIdx.x;
  const float* x = p.x + (p.rows != nullptr ? p.rows[row] : row) * p.x_stride;
  Vec8 values[kVecs];
  float squares = 0;
#pragma unroll
  for (int i = 0; i < kVecs; ++i) {
    const int vec = static_cast<int>(threadIdx.x + i * blockDim.x);
    if (vec >= num_vecs) continue;
    values[i] = load8(x, vec * 8);
#pragma unroll
    for (int j = 0; j < 8; ++j) squares = fmaf(values[i].v[j], values[i].v[j], squares);
  }
  const float mean = block_sum(squares, parts) / static_cast<float>(p.n);
  const float rms = 1.0F / sqrtf(mean + p.eps);
  auto* y = static_cast<Out*>(p.y) + row * p.y_stride;
#pragma unroll
  for (int i = 0; i < kVecs; ++i) {
    const int vec = static_cast<int>(threadIdx.x + i * blockDim.x);
    if (vec >= num_vecs) continue;
    Vec8 out;
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      out.v[j] = values[i].v[j] * rms * (scale[i].v[j] + p.weight_offset);
    }
    if constexpr (sizeof(Out) == 4) {
      if (p.accumulate) {
        const Vec8 old = load8(y, vec * 8);
#pragma unroll
        for (int j = 0; j < 8; ++j) out.v[j] = fmaf(p.alpha, out.v[j], old.v[j]);
      }
    }
    store8(y, vec * 8, out);
  }
}

template <class Weight, class Out>
void launch_typed(const RmsNormParams& p, void* stream) {
  const auto num_vecs = static_cast<unsigned>(p.n / 8);
  const unsigned vecs = (num_vecs + 1023) / 1024;  // 1, 2, or up to 4 a thread
  const unsigned threads = ((num_vecs + vecs - 1) / vecs + 31) / 32 * 32;
  const Grid grid{.blocks = {static_cast<unsigned>(p.m)}, .threads = {threads}};
  const auto kernel = vecs == 1   ? rms_norm_kernel<1, Weight, Out>
                      : vecs == 2 ? rms_norm_kernel<2, Weight, Out>
                                  : rms_norm_kernel<4, Weight, Out>;
  launch("rms_norm", kernel, grid, stream, p);
}

template <class Weight>
void launch_weight(const RmsNormParams& p, void* stream) {
  if (p.y_dtype == DType::kF32) {
    launch_typed<Weight, float>(p, stream);
  } else if (p.y_dtype == DType::kBF16) {
    launch_typed<Weight, __nv_bfloat16>(p, stream);
  } else {
    launch_typed<Weight, __half>(p, stream);
  }
}

}  // namespace

void rms_norm_launch(const RmsNormParams& params, void* stream) {
  if (params.weight_dtype == DType::kF32) {
    launch_weight<float>(params, stream);
  } else {
    launch_weight<__nv_bfloat16>(params, stream);
  }
}

}  // namespace foveal::kernels::cuda

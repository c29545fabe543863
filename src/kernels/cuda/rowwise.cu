// Computes: act_mul y = act(gate) * up; embed y = alpha * table[id]; add_bias y += bias of the
//           column; add_scaled y += alpha * x; scale_softcap x = cap * tanh(alpha * x / cap);
//           gather_rows, zero_pages; fill_normal: normal values by Box and Muller from Philox words
//           of (seed, index / 4).
// In/out:   shapes and types in elementwise.h.
// Units:    elements, but row_bytes and page_bytes.
// Launch:   256 threads, 16 bytes of the narrower operand a thread; at most 16 blocks a
//           multiprocessor, which then stride over the rest.
// Needs:    rows that are multiples of 16 bytes (add_scaled, scale_softcap, fill_normal: any n).
// Numerics: float32 between one rounding in and one out; element-wise, so order does not matter.
//           exp by the fast intrinsic (2 ulp), far below a rounding to bf16.
// Source:   ours.
// Measured: H100, 2026-11-28: act_mul 8192 x 14336 239 us, 93 % of the read rate, 1 row 1.1 us;
//           add_scaled 8192 x 4096 137 us, 92 %. embed and zero_pages in whole steps
//           (bench/results/2026-11-28-cuda-engine-h200.md), fill_normal with the start-up of
//           bench/results/2026-11-28-cuda-engine.md (15 GiB). In no timed run: add_bias,
//           scale_softcap, gather_rows.

#include <algorithm>

#include "kernels/cuda/activation.cuh"
#include "kernels/cuda/device/pdl.cuh"
#include "kernels/cuda/device/philox.cuh"
#include "kernels/cuda/device/vec.cuh"
#include "kernels/cuda/elementwise_launch.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/launch.h"

namespace foveal::kernels::cuda {
namespace {

constexpr int kThreads = 256;

Grid strided_grid(int64_t items) {
  const int64_t blocks = (items + kThreads - 1) / kThreads;
  const auto most = int64_t{16} * num_multiprocessors();
  return {.blocks = {static_cast<unsigned>(std::clamp<int64_t>(blocks, 1, most))},
          .threads = {kThreads}};
}

__device__ __forceinline__ int64_t first_item() {
  return int64_t{blockIdx.x} * kThreads + threadIdx.x;
}
__device__ __forceinline__ int64_t item_step() { return int64_t{gridDim.x} * kThreads; }

/// A block: kActVecs times 256 vectors of one row. All vectors of a thread are asked for before the
/// first is used.
template <class T, Activation kAct, int kActVecs>
__global__ void __launch_bounds__(kThreads) act_mul_kernel(ActMulParams p) {
  let_next_start();
  wait_for_previous();
  const T* x = static_cast<const T*>(p.gate_up) + blockIdx.x * p.x_stride;
  T* y = static_cast<T*>(p.y) + blockIdx.x * p.y_stride;
  const int64_t first = (int64_t{blockIdx.y} * kActVecs * kThreads + threadIdx.x) * 8;
  Vec8 gate[kActVecs];
  Vec8 up[kActVecs];
#pragma unroll
  for (int i = 0; i < kActVecs; ++i) {
    const int64_t col = first + i * kThreads * 8;
    if (col >= p.n) continue;
    gate[i] = load8(x, col);
    up[i] = load8(x, p.n + col);
  }
#pragma unroll
  for (int i = 0; i < kActVecs; ++i) {
    const int64_t col = first + i * kThreads * 8;
    if (col >= p.n) continue;
    Vec8 out;
#pragma unroll
    for (int j = 0; j < 8; ++j) out.v[j] = activate(gate[i].v[j], kAct) * up[i].v[j];
    store8(y, col, out);
  }
}

template <class T, int kActVecs>
void act_mul_vecs(const ActMulParams& p, void* stream) {
  using enum Activation;
  const auto kernel = p.act == kSilu       ? act_mul_kernel<T, kSilu, kActVecs>
                      : p.act == kGeluTanh ? act_mul_kernel<T, kGeluTanh, kActVecs>
                                           : act_mul_kernel<T, kGeluErf, kActVecs>;
  constexpr int64_t kCols = kActVecs * kThreads * 8;
  const Grid grid{
      .blocks = {static_cast<unsigned>(p.m), static_cast<unsigned>((p.n + kCols - 1) / kCols)},
      .threads = {kThreads}};
  launch("act_mul", kernel, grid, stream, p);
}

template <class T>
void act_mul_typed(const ActMulParams& p, void* stream) {
  constexpr int64_t kManyRows = 256;  // fewer: latency counts, so the shortest threads
  if (p.m < kManyRows) {
    act_mul_vecs<T, 1>(p, stream);
  } else {
    act_mul_vecs<T, 2>(p, stream);
  }
}

__global__ void __launch_bounds__(kThreads) embed_kernel(EmbedParams p) {
  let_next_start();
  wait_for_previous();
  const auto vecs = static_cast<unsigned>(p.n / 8);
  const int64_t total = p.m * vecs;
  const auto* table = reinterpret_cast<const __nv_bfloat16*>(p.table);
  for (int64_t item = first_item(); item < total; item += item_step()) {
    const int64_t row = item / vecs;
    const int64_t col = (item - row * vecs) * 8;
    int64_t id = p.ids[row];
    if (id < 0 && p.chosen != nullptr) id = p.chosen[-1 - id];
    Vec8 x{};
    if (id >= 0 && id < p.vocab) x = load8(table, id * p.n + col);
#pragma unroll
    for (int i = 0; i < 8; ++i) x.v[i] *= p.alpha;
    store8(p.y, row * p.n + col, x);
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads) add_bias_kernel(AddBiasParams p) {
  let_next_start();
  wait_for_previous();
  for (int64_t item = first_item(); item < p.m * p.n; item += item_step()) {
    const int64_t row = item / p.n;
    const int64_t col = item - row * p.n;
    p.y[row * p.y_stride + col] += static_cast<float>(static_cast<const T*>(p.bias)[col]);
  }
}

__global__ void __launch_bounds__(kThreads)
    add_scaled_kernel(const float* x, float alpha, float* y, int64_t n) {
  let_next_start();
  wait_for_previous();
  const int64_t quads = n / 4;
  for (int64_t item = first_item(); item < quads; item += item_step()) {
    const float4 a = reinterpret_cast<const float4*>(x)[item];
    float4 b = reinterpret_cast<float4*>(y)[item];
    b = {fmaf(alpha, a.x, b.x), fmaf(alpha, a.y, b.y), fmaf(alpha, a.z, b.z),
         fmaf(alpha, a.w, b.w)};
    reinterpret_cast<float4*>(y)[item] = b;
  }
  const int64_t rest = quads * 4 + first_item();
  if (rest < n) y[rest] = fmaf(alpha, x[rest], y[rest]);
}

__device__ __forceinline__ float soft_capped(float x, float alpha, float cap) {
  const float scaled = x * alpha;
  return cap == 0 ? scaled : cap * tanhf(scaled / cap);
}

__global__ void __launch_bounds__(kThreads)
    scale_softcap_kernel(float* x, float alpha, float cap, int64_t n) {
  let_next_start();
  wait_for_previous();
  const int64_t quads = n / 4;
  for (int64_t item = first_item(); item < quads; item += item_step()) {
    float4 a = reinterpret_cast<float4*>(x)[item];
    a = {soft_capped(a.x, alpha, cap), soft_capped(a.y, alpha, cap), soft_capped(a.z, alpha, cap),
         soft_capped(a.w, alpha, cap)};
    reinterpret_cast<float4*>(x)[item] = a;
  }
  const int64_t rest = quads * 4 + first_item();
  if (rest < n) x[rest] = soft_capped(x[rest], alpha, cap);
}

__global__ void __launch_bounds__(kThreads)
    gather_rows_kernel(const uint4* x, const int32_t* rows, uint4* y, int64_t m, unsigned vecs) {
  let_next_start();
  wait_for_previous();
  for (int64_t item = first_item(); item < m * vecs; item += item_step()) {
    const int64_t row = item / vecs;
    const int64_t col = item - row * vecs;
    y[item] = x[int64_t{rows[row]} * vecs + col];
  }
}

__global__ void __launch_bounds__(kThreads)
    zero_pages_kernel(uint4* base, const int32_t* pages, int64_t num_pages, unsigned vecs) {
  let_next_start();
  wait_for_previous();
  for (int64_t item = first_item(); item < num_pages * vecs; item += item_step()) {
    const int64_t idx = item / vecs;
    const int64_t page = pages[idx];
    if (page >= 0) base[page * vecs + (item - idx * vecs)] = {0, 0, 0, 0};
  }
}

__device__ __forceinline__ float2 normal_pair(uint32_t a, uint32_t b) {
  // In (0, 1]: the logarithm stays finite.
  const float u = (static_cast<float>(a >> 8) + 1.0F) * 0x1p-24F;
  const float radius = sqrtf(-2.0F * logf(u));
  float sine;
  float cosine;
  sincospif(static_cast<float>(b >> 8) * 0x1p-23F, &sine, &cosine);
  return {radius * cosine, radius * sine};
}

__global__ void __launch_bounds__(kThreads)
    fill_normal_kernel(uint16_t* y, int64_t n, uint64_t seed, float deviation) {
  let_next_start();
  wait_for_previous();
  const uint2 key = {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)};
  const int64_t vecs = (n + 7) / 8;
  for (int64_t item = first_item(); item < vecs; item += item_step()) {
    Vec8 x;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int64_t index = 2 * item + half;
      const uint4 words =
          philox4x32({static_cast<uint32_t>(index), static_cast<uint32_t>(index >> 32), 1, 0}, key);
      const float2 first = normal_pair(words.x, words.y);
      const float2 second = normal_pair(words.z, words.w);
      x.v[4 * half] = first.x * deviation;
      x.v[4 * half + 1] = first.y * deviation;
      x.v[4 * half + 2] = second.x * deviation;
      x.v[4 * half + 3] = second.y * deviation;
    }
    auto* out = reinterpret_cast<__nv_bfloat16*>(y);
    if (item * 8 + 8 <= n) {
      store8(out, item * 8, x);
      continue;
    }
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      if (item * 8 + i < n) out[item * 8 + i] = __float2bfloat16_rn(x.v[i]);
    }
  }
}

}  // namespace

void act_mul_launch(const ActMulParams& params, void* stream) {
  if (params.dtype == DType::kBF16) {
    act_mul_typed<__nv_bfloat16>(params, stream);
  } else {
    act_mul_typed<__half>(params, stream);
  }
}

void embed_launch(const EmbedParams& params, void* stream) {
  launch("embed", embed_kernel, strided_grid(params.m * (params.n / 8)), stream, params);
}

void add_bias_launch(const AddBiasParams& params, void* stream) {
  const auto kernel =
      params.bias_dtype == DType::kBF16 ? add_bias_kernel<__nv_bfloat16> : add_bias_kernel<__half>;
  launch("add_bias", kernel, strided_grid(params.m * params.n), stream, params);
}

void add_scaled_launch(const float* x, float alpha, float* y, int64_t n, void* stream) {
  launch("add_scaled", add_scaled_kernel, strided_grid((n + 3) / 4), stream, x, alpha, y, n);
}

void scale_softcap_launch(float* x, float alpha, float cap, int64_t n, void* stream) {
  launch("scale_softcap", scale_softcap_kernel, strided_grid((n + 3) / 4), stream, x, alpha, cap,
         n);
}

void gather_rows_launch(const void* x, const int32_t* rows, void* y, int64_t m, int64_t row_bytes,
                        void* stream) {
  const auto vecs = static_cast<unsigned>(row_bytes / 16);
  launch("gather_rows", gather_rows_kernel, strided_grid(m * vecs), stream,
         static_cast<const uint4*>(x), rows, static_cast<uint4*>(y), m, vecs);
}

void zero_pages_launch(void* base, int64_t page_bytes, const int32_t* pages, int64_t num_pages,
                       void* stream) {
  const auto vecs = static_cast<unsigned>(page_bytes / 16);
  launch("zero_pages", zero_pages_kernel, strided_grid(num_pages * vecs), stream,
         static_cast<uint4*>(base), pages, num_pages, vecs);
}

void fill_normal_launch(uint16_t* y, int64_t n, uint64_t seed, float deviation, void* stream) {
  launch("fill_normal", fill_normal_kernel, strided_grid((n + 7) / 8), stream, y, n, seed,
         deviation);
}

}  // namespace foveal::kernels::cuda

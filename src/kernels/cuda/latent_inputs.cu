// Computes: latent_inputs: cached rows [RMS norm of the latent | rotated channels], and every query
//           head's rotated channels into its absorbed query, or in place; index_inputs: an
//           indexer's key after LayerNorm and rotation, and its queries rotated in place.
// In/out:   latents [m, rank + rope] and k [m, head_dim] float32, q and outputs bf16; positions
//           [m]; cos, sin [max_position, rope / 2] float32.
// Units:    elements; positions in tokens.
// Launch:   128 threads; block (row, 0) makes the row's key, the others 16 channels of a query head
//           a thread.
// Needs:    rope a multiple of 16; rank and head_dim multiples of 8; 16-byte aligned rows.
// Numerics: float32 between one rounding in and one out; sums over the block in a fixed order.
// Source:   ours.
// Measured: latent_inputs and index_inputs not by themselves: in whole steps of DeepSeek-V3.2's
//           shape, four layers at 32768 tokens, 1.88 ms (H200, 2026-11-28;
//           bench/results/2026-11-28-cuda-dsa-engine.md).

#include "kernels/cuda/device/pdl.cuh"
#include "kernels/cuda/device/reduce.cuh"
#include "kernels/cuda/device/vec.cuh"
#include "kernels/cuda/latent_inputs_launch.h"
#include "kernels/cuda/launch.cuh"

namespace foveal::kernels::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kMaxIndexDim = 1024;

/// Where the two vectors of a rotated share of 16 channels begin: channels i and i + rope / 2 of a
/// head turn together, or 2i and 2i + 1.
struct Places {
  int first;
  int second;
};
__device__ Places places(const LatentRope& rope, int share) {
  if (rope.style == RopeStyle::kHalf) return {share * 8, share * 8 + rope.dim / 2};
  return {share * 16, share * 16 + 8};
}

__device__ void rotate(Vec8& a, Vec8& b, const LatentRope& rope, int64_t row, int share) {
  const int64_t at = int64_t{rope.positions[row]} * (rope.dim / 2) + share * 8;
  const Vec8 c = load8(rope.cos_table, at);
  const Vec8 s = load8(rope.sin_table, at);
  const Vec8 x = a;
  const Vec8 y = b;
  if (rope.style == RopeStyle::kHalf) {
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      a.v[i] = x.v[i] * c.v[i] - y.v[i] * s.v[i];
      b.v[i] = y.v[i] * c.v[i] + x.v[i] * s.v[i];
    }
    return;
  }
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    a.v[2 * i] = x.v[2 * i] * c.v[i] - x.v[2 * i + 1] * s.v[i];
    a.v[2 * i + 1] = x.v[2 * i + 1] * c.v[i] + x.v[2 * i] * s.v[i];
    b.v[2 * i] = y.v[2 * i] * c.v[4 + i] - y.v[2 * i + 1] * s.v[4 + i];
    b.v[2 * i + 1] = y.v[2 * i + 1] * c.v[4 + i] + y.v[2 * i] * s.v[4 + i];
  }
}

__device__ __nv_bfloat16* bf16(uint16_t* p) { return reinterpret_cast<__nv_bfloat16*>(p); }

/// A block: the latent's vectors by its first threads, shares of the rotating channels by the next.
__device__ void make_row(const LatentInputsParams& p, int64_t row, const Vec8& weight) {
  __shared__ float parts[32];
  const int thread = static_cast<int>(threadIdx.x);
  const int vecs = p.rank / 8;
  const float* x = p.latents + row * p.latents_stride;
  __nv_bfloat16* y = bf16(p.rows) + row * (p.rank + p.rope.dim);
  Vec8 values{};
  float squares = 0;
  if (thread < vecs) {
    values = load8(x, thread * 8);
#pragma unroll
    for (const float v : values.v) squares = fmaf(v, v, squares);
  }
  const float mean = block_sum(squares, parts) / static_cast<float>(p.rank);
  if (thread < vecs) {
    const float rms = 1.0F / sqrtf(mean + p.norm_eps);
#pragma unroll
    for (int i = 0; i < 8; ++i) values.v[i] *= rms * weight.v[i];
    store8(y, thread * 8, values);
    return;
  }
  const int share = thread - vecs;
  if (share >= p.rope.dim / 16) return;
  const Places at = places(p.rope, share);
  Vec8 a = load8(x + p.rank, at.first);
  Vec8 b = load8(x + p.rank, at.second);
  rotate(a, b, p.rope, row, share);
  store8(y + p.rank, at.first, a);
  store8(y + p.rank, at.second, b);
}

__global__ void __launch_bounds__(kThreads) latent_inputs_kernel(LatentInputsParams p) {
  let_next_start();
  const int64_t row = blockIdx.x;
  if (blockIdx.y == 0) {
    Vec8 weight{};
    if (static_cast<int>(threadIdx.x) < p.rank / 8) weight = load8(p.norm, threadIdx.x * 8);
    wait_for_previous();
    return make_row(p, row, weight);
  }
  wait_for_previous();
  const int shares = p.rope.dim / 16;
  const int idx = static_cast<int>((blockIdx.y - 1) * kThreads + threadIdx.x);
  const int head = idx / shares;
  if (head >= p.num_heads) return;
  const int share = idx % shares;
  const Places at = places(p.rope, share);
  __nv_bfloat16* q =
      bf16(p.q) + row * p.q_stride + int64_t{head} * (p.nope_dim + p.rope.dim) + p.nope_dim;
  Vec8 a = load8(q, at.first);
  Vec8 b = load8(q, at.second);
  rotate(a, b, p.rope, row, share);
  __nv_bfloat16* to =
      row < p.in_place
          ? q
          : bf16(p.absorbed) + (row * p.num_heads + head) * (p.rank + p.rope.dim) + p.rank;
  store8(to, at.first, a);
  store8(to, at.second, b);
}

/// A block; rotation finds its partner in shared memory.
__device__ void make_index_key(const IndexInputsParams& p, int64_t row) {
  __shared__ float sums[32];
  __shared__ float squares[32];
  __shared__ __align__(16) float normed[kMaxIndexDim];
  const int thread = static_cast<int>(threadIdx.x);
  const bool active = thread < p.head_dim / 8;
  const auto n = static_cast<float>(p.head_dim);
  Vec8 x{};
  if (active) x = load8(p.k + row * p.k_stride, thread * 8);
  float sum = 0;
#pragma unroll
  for (const float v : x.v) sum += v;
  const float mean = block_sum(sum, sums) / n;
  float square = 0;
#pragma unroll
  for (const float v : x.v) square = active ? fmaf(v - mean, v - mean, square) : 0;
  const float factor = 1.0F / sqrtf(block_sum(square, squares) / n + p.norm_eps);
  if (active) {
    const Vec8 weight = load8(p.weight, thread * 8);
    const Vec8 bias = load8(p.bias, thread * 8);
#pragma unroll
    for (int i = 0; i < 8; ++i) x.v[i] = fmaf((x.v[i] - mean) * factor, weight.v[i], bias.v[i]);
    store8(normed, thread * 8, x);
  }
  __syncthreads();
  __nv_bfloat16* y = bf16(p.y) + row * p.head_dim;
  if (active && thread * 8 >= p.rope.dim) store8(y, thread * 8, x);
  if (thread >= p.rope.dim / 16) return;
  const Places at = places(p.rope, thread);
  Vec8 a = load8(normed, at.first);
  Vec8 b = load8(normed, at.second);
  rotate(a, b, p.rope, row, thread);
  store8(y, at.first, a);
  store8(y, at.second, b);
}

__global__ void __launch_bounds__(kThreads) index_inputs_kernel(IndexInputsParams p) {
  let_next_start();
  wait_for_previous();
  const int64_t row = blockIdx.x;
  if (blockIdx.y == 0) return make_index_key(p, row);
  const int shares = p.rope.dim / 16;
  const int idx = static_cast<int>((blockIdx.y - 1) * kThreads + threadIdx.x);
  const int head = idx / shares;
  if (head >= p.num_heads) return;
  const int share = idx % shares;
  const Places at = places(p.rope, share);
  __nv_bfloat16* q = bf16(p.q) + row * p.q_stride + int64_t{head} * p.head_dim;
  Vec8 a = load8(q, at.first);
  Vec8 b = load8(q, at.second);
  rotate(a, b, p.rope, row, share);
  store8(q, at.first, a);
  store8(q, at.second, b);
}

Grid grid_of(int64_t rows, int num_heads, int rope_dim) {
  const auto work = static_cast<unsigned>(num_heads * (rope_dim / 16));
  return {.blocks = {static_cast<unsigned>(rows), 1 + (work + kThreads - 1) / kThreads},
          .threads = {kThreads}};
}

}  // namespace

void latent_inputs_launch(const LatentInputsParams& params, void* stream) {
  launch("latent_inputs", latent_inputs_kernel,
         grid_of(params.m, params.num_heads, params.rope.dim), stream, params);
}

void index_inputs_launch(const IndexInputsParams& params, void* stream) {
  launch("index_inputs", index_inputs_kernel, grid_of(params.m, params.num_heads, params.rope.dim),
         stream, params);
}

}  // namespace foveal::kernels::cuda

// Computes: expand_cache: keys and values of an e4m3 cache as bf16 or f16, every sequence from a
//           multiple of `unit` rows (of 64) on, zeros up to the next one; scratch_starts: where
//           each begins, for any layout.
// In/out:   k, v: pages or contiguous rows of e4m3, strides given; k_out, v_out [num_kv_heads,
//           rows, head_dim]; starts [num_seqs + 1].
// Units:    rows, bytes; values as stored (their scales go into the softmax's and the output's).
// Launch:   starts: one warp. Rows: a block of 64 rows of one KV head, 16 channels of K and of V a
//           thread and turn; grid (rows / 64, num_kv_heads); blocks past the last row end at once.
// Needs:    head_dim 64, 96, 128, 192 or 256; rows of k and v at multiples of 16 bytes.
// Numerics: exact: every e4m3 value is one of bf16 and f16; NaN stays NaN.
// Source:   ours.
// Measured: docs/kernels/cuda_prefill.md

#include <cuda_fp8.h>

#include "kernels/cuda/device/pdl.cuh"
#include "kernels/cuda/device/reduce.cuh"
#include "kernels/cuda/device/vec.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/prefill_expand.h"
#include "kernels/cuda/prefill_scratch.cuh"

namespace foveal::kernels::cuda {
namespace {

constexpr int kRows = 64;  // a block, all of one sequence
constexpr int kStep = 16;  // channels, and bytes read, of a thread

__global__ void __launch_bounds__(32) scratch_starts_kernel(ExpandCacheParams p) {
  wait_for_previous();
  const int lane = static_cast<int>(threadIdx.x);
  int32_t before = 0;
  for (int32_t base = 0; base < p.num_seqs; base += 32) {
    const int32_t seq = base + lane;
    const int32_t keys = seq < p.num_seqs ? p.kv_len[seq] : 0;
    const int32_t up_to = warp_prefix_sum((keys + p.unit - 1) / p.unit * p.unit, lane);
    if (seq < p.num_seqs) p.starts[seq + 1] = before + up_to;
    before += __shfl_sync(~0U, up_to, 31);
  }
  if (lane == 0) p.starts[0] = 0;
}

template <class T>
__device__ void store_expanded(T* to, const uint4& bytes) {
  const uint32_t words[4] = {bytes.x, bytes.y, bytes.z, bytes.w};
  uint32_t out[8];
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    const auto pair = static_cast<__nv_fp8x2_storage_t>(words[i / 2] >> (i % 2 * 16));
    const __half2_raw half = __nv_cvt_fp8x2_to_halfraw2(pair, __NV_E4M3);
    const float2 value = __half22float2(__half2(half));
    out[i] = pack2(value.x, value.y, T());
  }
  auto* words_out = reinterpret_cast<uint4*>(to);
  words_out[0] = {out[0], out[1], out[2], out[3]};
  words_out[1] = {out[4], out[5], out[6], out[7]};
}

constexpr int threads_of(int head_dim) { return head_dim % 96 == 0 ? 192 : 256; }

template <class T, int kHeadDim>
__global__ void __launch_bounds__(threads_of(kHeadDim)) expand_cache_kernel(ExpandCacheParams p) {
  constexpr int kThreads = threads_of(kHeadDim);
  constexpr int kTurns = kRows * kHeadDim / kStep / kThreads;
  static_assert(kTurns * kThreads * kStep == kRows * kHeadDim);
  wait_for_previous();
  const int64_t first = int64_t{blockIdx.x} * kRows;
  const int32_t seq = sequence_of(p, first);
  if (seq >= p.num_seqs) return;
  if (first - p.starts[seq] < first_key(p, seq)) return;
  const int32_t keys = p.kv_len[seq];
  const int64_t head = blockIdx.y;
  uint4 k[kTurns];
  uint4 v[kTurns];
#pragma unroll
  for (int turn = 0; turn < kTurns; ++turn) {
    const int item = turn * kThreads + static_cast<int>(threadIdx.x);
    const auto key = static_cast<int32_t>(first - p.starts[seq]) + item / (kHeadDim / kStep);
    const int channel = item % (kHeadDim / kStep) * kStep;
    k[turn] = v[turn] = uint4{};
    if (key >= keys) continue;
    const CacheRow at = cache_row(p, seq, key);
    k[turn] = *reinterpret_cast<const uint4*>(k_row(p, at, head) + channel);
    v[turn] = *reinterpret_cast<const uint4*>(v_row(p, at, head) + channel);
  }
#pragma unroll
  for (int turn = 0; turn < kTurns; ++turn) {
    const int item = turn * kThreads + static_cast<int>(threadIdx.x);
    const int64_t at = (head * p.rows + first) * kHeadDim + int64_t{item} * kStep;
    store_expanded(static_cast<T*>(p.k_out) + at, k[turn]);
    store_expanded(static_cast<T*>(p.v_out) + at, v[turn]);
  }
}

template <class T>
auto find_kernel(int32_t head_dim) {
  switch (head_dim) {
    case 64:
      return expand_cache_kernel<T, 64>;
    case 96:
      return expand_cache_kernel<T, 96>;
    case 128:
      return expand_cache_kernel<T, 128>;
    case 192:
      return expand_cache_kernel<T, 192>;
    default:
      return expand_cache_kernel<T, 256>;
  }
}

}  // namespace

void scratch_starts_launch(const ExpandCacheParams& params, void* stream) {
  launch("scratch_starts", scratch_starts_kernel, {.blocks = {1}, .threads = {32}}, stream, params);
}

void expand_cache_launch(const ExpandCacheParams& params, void* stream) {
  scratch_starts_launch(params, stream);
  if (params.layout == CacheLayout::kTiles) return tile_cache_launch(params, stream);
  const Grid grid{.blocks = {static_cast<unsigned>(params.rows / kRows),
                             static_cast<unsigned>(params.num_kv_heads)},
                  .threads = {static_cast<unsigned>(threads_of(params.head_dim))}};
  const auto kernel = params.layout == CacheLayout::kF16
                          ? find_kernel<__half>(params.head_dim)
                          : find_kernel<__nv_bfloat16>(params.head_dim);
  launch("expand_cache", kernel, grid, stream, params);
}

}  // namespace foveal::kernels::cuda

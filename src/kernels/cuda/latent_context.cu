// Computes: latent_context: the cached rows of sequences one after the other, 656-byte rows widened
//           (value = e4m3 * scale, rounded to bf16), and where each sequence begins; head_weights:
//           both halves of a head's weights under one another, the keys' half turned back.
// In/out:   LatentContextParams, HeadWeightsParams.
// Units:    rows, channels; page_bytes in bytes.
// Launch:   latent_context: four rows a block, eight channels a thread. head_weights: 32 x 8
//           threads, a tile of 32 rows and columns of a head.
// Needs:    a page size that is a power of two; 16-byte aligned rows.
// Numerics: exact but for scales that are no power of two.
// Source:   ours.
// Measured: latent_context with the form of heads (docs/kernels/cuda_mla.md); head_weights, at
//           loading, in no timed run.

#include <cuda_fp8.h>

#include "kernels/cuda/device/pdl.cuh"
#include "kernels/cuda/device/vec.cuh"
#include "kernels/cuda/latent_context_launch.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/prefill_scratch.cuh"

namespace foveal::kernels::cuda {
namespace {

constexpr int kVecs = FOVEAL_MLA_HEAD_DIM / 8;
constexpr int kValueVecs = FOVEAL_MLA_VALUE_DIM / 8;
constexpr int kRows = 4;
constexpr int kTile = 32;

__device__ uint4 widened(const uint8_t* row, int vec) {
  const uint2 bytes = reinterpret_cast<const uint2*>(row)[vec];
  const float scale = reinterpret_cast<const float*>(row + FOVEAL_MLA_VALUE_DIM)[vec * 8 / 128];
  const uint32_t words[2] = {bytes.x, bytes.y};
  uint32_t out[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const auto pair = static_cast<__nv_fp8x2_storage_t>(words[i / 2] >> (i % 2 * 16));
    const float2 value = __half22float2(__half2(__nv_cvt_fp8x2_to_halfraw2(pair, __NV_E4M3)));
    out[i] = pack2(value.x * scale, value.y * scale, __nv_bfloat16());
  }
  return {out[0], out[1], out[2], out[3]};
}

template <bool kE4m3>
__global__ void __launch_bounds__(kRows* kVecs)
    latent_context_kernel(const LatentContextParams p, const ExpandCacheParams where) {
  wait_for_previous();
  let_next_start();
  constexpr int kRowBytes = kE4m3 ? FOVEAL_MLA_FP8_ROW : FOVEAL_MLA_HEAD_DIM * 2;
  const int vec = static_cast<int>(threadIdx.x) % kVecs;
  const int64_t at = int64_t{blockIdx.x} * kRows + threadIdx.x / kVecs;
  if (at >= p.num_rows) return;
  const int32_t seq = sequence_of(where, at);
  if (seq >= p.num_seqs) return;
  const CacheRow from = cache_row(where, seq, static_cast<int32_t>(at - p.starts[seq]));
  const uint8_t* row = static_cast<const uint8_t*>(p.cache.data) + from.page * p.cache.page_bytes +
                       from.row * kRowBytes;
  uint4* to = reinterpret_cast<uint4*>(p.rows) + at * kVecs;
  if constexpr (!kE4m3) {
    to[vec] = reinterpret_cast<const uint4*>(row)[vec];
  } else if (vec < kValueVecs) {
    to[vec] = widened(row, vec);
  } else {
    constexpr int kBegin = FOVEAL_MLA_VALUE_DIM + FOVEAL_MLA_VALUE_DIM / 128 * 4;
    to[vec] = reinterpret_cast<const uint4*>(row + kBegin)[vec - kValueVecs];
  }
}

__global__ void __launch_bounds__(kTile * 8) head_weights_kernel(const HeadWeightsParams p) {
  __shared__ uint16_t tile[kTile][kTile + 1];
  wait_for_previous();
  let_next_start();
  const int64_t head = blockIdx.z;
  const int x = static_cast<int>(threadIdx.x);
  const int first_row = static_cast<int>(blockIdx.y) * kTile;  // of the head's
  const int first_k = static_cast<int>(blockIdx.x) * kTile;
  const int head_rows = p.nope_dim + p.value_dim;
  for (int y = static_cast<int>(threadIdx.y); y < kTile; y += 8) {
    const int k = first_k + y;
    const int row = first_row + x;
    if (k < p.rank && row < p.nope_dim) {
      tile[y][x] = p.to_latent[(head * p.rank + k) * p.nope_dim + row];
    }
  }
  __syncthreads();
  for (int y = static_cast<int>(threadIdx.y); y < kTile; y += 8) {
    const int row = first_row + y;
    const int k = first_k + x;
    if (k >= p.rank || row >= head_rows) continue;
    p.out[(head * head_rows + row) * p.rank + k] =
        row < p.nope_dim ? tile[x][y]
                         : p.to_values[(head * p.value_dim + row - p.nope_dim) * p.rank + k];
  }
}

}  // namespace

void latent_context_launch(const LatentContextParams& params, int32_t page_shift, void* stream) {
  ExpandCacheParams where{};
  where.page_table = params.page_table;
  where.page_table_stride = params.page_table_stride;
  where.page_shift = page_shift;
  where.kv_len = params.kv_len;
  where.starts = params.starts;
  where.num_seqs = params.num_seqs;
  where.unit = 1;
  scratch_starts_launch(where, stream);
  launch("latent_context",
         params.cache.dtype == FOVEAL_BF16 ? latent_context_kernel<false>
                                           : latent_context_kernel<true>,
         {.blocks = {static_cast<unsigned>((params.num_rows + kRows - 1) / kRows)},
          .threads = {kRows * kVecs}},
         stream, params, where);
}

void head_weights_launch(const HeadWeightsParams& params, void* stream) {
  const auto tiles = [](int32_t n) { return static_cast<unsigned>((n + kTile - 1) / kTile); };
  launch("head_weights", head_weights_kernel,
         {.blocks = {tiles(params.rank), tiles(params.nope_dim + params.value_dim),
                     static_cast<unsigned>(params.num_heads)},
          .threads = {kTile, 8}},
         stream, params);
}

}  // namespace foveal::kernels::cuda

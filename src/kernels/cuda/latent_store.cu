#include <cmath>

#include "kernels/cuda/device/pdl.cuh"
#include "kernels/cuda/device/reduce.cuh"
#include "kernels/cuda/device/vec.cuh"
#include "kernels/cuda/latent_launch.h"
#include "kernels/cuda/launch.cuh"

namespace foveal::kernels::cuda {
namespace {

constexpr int kValueVecs = FOVEAL_MLA_VALUE_DIM / 8;
constexpr int kStoreThreads = 96;  // for 512 and 64: 64 for the latent, 8 of the third warp
constexpr int kRowsThreads = 256;

/// Computes:  counts[r] = position of row r + 1, row_seq[r] = its sequence.
/// In/out:    foveal_mla_rows_params
/// Units:     tokens.
/// Launch:    a thread a row.
/// Needs:     sm_90.
/// Numerics:  integers.
/// Source:    ours.
/// Measured:  docs/kernels/cuda_mla.md
__global__ void __launch_bounds__(kRowsThreads) latent_rows(const foveal_mla_rows_params p) {
  wait_for_previous();
  let_next_start();
  const auto row = static_cast<int32_t>(blockIdx.x * kRowsThreads + threadIdx.x);
  if (row >= p.num_rows) return;
  int32_t seq = row;
  int32_t behind = 0;  // rows of the sequence after this one
  bool real = row < p.num_seqs;
  if (p.cu_q != nullptr) {
    int32_t low = 0;  // the last sequence that begins at or before the row
    int32_t high = p.num_seqs;
    while (high - low > 1) {
      const int32_t middle = (low + high) / 2;
      (p.cu_q[middle] <= row ? low : high) = middle;
    }
    seq = low;
    behind = p.cu_q[seq + 1] - 1 - row;
    real = behind >= 0;
  }
  if (p.counts != nullptr) p.counts[row] = real ? max(0, p.kv_len[seq] - behind) : 0;
  if (p.row_seq != nullptr) p.row_seq[row] = real ? seq : 0;
}

/// Where row r goes; null: nowhere.
__device__ uint8_t* destination(const foveal_mla_store_params& p, int32_t row, int32_t row_bytes) {
  const auto& cache = p.cache;
  int32_t slot = -1;
  if (p.slots != nullptr) {
    slot = p.slots[row];
  } else {
    const int32_t token = p.counts[row] - 1;
    const int32_t seq = p.row_seq == nullptr ? row : p.row_seq[row];
    if (token >= 0 && token / cache.page_size < p.page_table_stride) {
      slot = p.page_table[seq * p.page_table_stride + token / cache.page_size] * cache.page_size +
             token % cache.page_size;
    }
  }
  if (slot < 0 || slot / cache.page_size >= cache.num_pages) return nullptr;
  return static_cast<uint8_t*>(cache.data) + slot / cache.page_size * cache.page_bytes +
         static_cast<int64_t>(slot % cache.page_size) * row_bytes;
}

/// Computes:  the latent cache's row of each token: as it is, or 512 channels rounded to e4m3 with
///            a scale for each 128, 2^ceil(log2(max(amax / 448, 1e-4))).
/// In/out:    foveal_mla_store_params
/// Units:     channels.
/// Launch:    a CTA a row, eight channels a thread.
/// Needs:     sm_90; 16-byte aligned rows; other sizes than 512 and 64 in bf16.
/// Numerics:  scales and scaling are exact; values round to nearest even and never pass 448.
/// Source:    FlashMLA's "FP8 with scale" rows.
/// Measured:  docs/kernels/cuda_mla.md
template <bool kE4m3>
__global__ void __launch_bounds__(kStoreThreads)
    latent_store(const foveal_mla_store_params p, const LatentDims dims) {
  wait_for_previous();
  let_next_start();
  const auto row = static_cast<int32_t>(blockIdx.x);
  const auto thread = static_cast<int>(threadIdx.x);
  uint8_t* to = destination(p, row, kE4m3 ? FOVEAL_MLA_FP8_ROW : (dims.rank + dims.rope) * 2);
  if (to == nullptr) return;
  const auto* latent = static_cast<const __nv_bfloat16*>(p.latent) + row * p.latent_stride;
  const auto* rope = static_cast<const __nv_bfloat16*>(p.rope) + row * p.rope_stride;
  const auto vec = [](const __nv_bfloat16* x, int at) {
    return reinterpret_cast<const uint4*>(x)[at];
  };
  if constexpr (!kE4m3) {
    const int latent_vecs = dims.rank / 8;
    for (int at = thread; at < (dims.rank + dims.rope) / 8; at += kStoreThreads) {
      reinterpret_cast<uint4*>(to)[at] =
          at < latent_vecs ? vec(latent, at) : vec(rope, at - latent_vecs);
    }
    return;
  }
  const int rope_at = thread - kValueVecs;
  if (rope_at >= 0) {
    if (rope_at >= (FOVEAL_MLA_HEAD_DIM - FOVEAL_MLA_VALUE_DIM) / 8) return;
    constexpr int32_t kBegin = FOVEAL_MLA_VALUE_DIM + FOVEAL_MLA_VALUE_DIM / 128 * 4;
    reinterpret_cast<uint4*>(to + kBegin)[rope_at] = vec(rope, rope_at);
    return;
  }
  const Vec8 x = load8(latent, thread * 8);
  float most = 0;
#pragma unroll
  for (const float v : x.v) most = fmaxf(most, fabsf(v));
  constexpr int kLanes = 16;  // of 128 channels
#pragma unroll
  for (int step = kLanes / 2; step > 0; step /= 2) {
    most = fmaxf(most, __shfl_xor_sync(~0U, most, step));
  }
  // 2^ceil(log2(x)) by the bits of x: exact where a logarithm might not be.
  const uint32_t bits = __float_as_uint(fmaxf(most / 448.0F, 1e-4F));
  const float scale = __uint_as_float((bits + 0x7fffffU) & 0xff800000U);
  store_e4m3(to + thread * 8, x, scale);
  if (thread % kLanes == 0) {
    reinterpret_cast<float*>(to + FOVEAL_MLA_VALUE_DIM)[thread / kLanes] = scale;
  }
}

}  // namespace

void launch_latent_rows(const foveal_mla_rows_params& params, void* stream) {
  const auto blocks = static_cast<unsigned>((params.num_rows + kRowsThreads - 1) / kRowsThreads);
  launch("latent_rows", latent_rows, {.blocks = blocks, .threads = kRowsThreads}, stream, params);
}

void launch_latent_store(const foveal_mla_store_params& params, const LatentDims& dims,
                         void* stream) {
  const Grid grid{.blocks = static_cast<unsigned>(params.num_rows), .threads = kStoreThreads};
  launch("latent_store",
         params.cache.dtype == FOVEAL_BF16 ? latent_store<false> : latent_store<true>, grid, stream,
         params, dims);
}

}  // namespace foveal::kernels::cuda

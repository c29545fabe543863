// Computes: rope_store: per row and head of the fused qkv product: q and k divided by their root
//           mean square and weighted (if norms are given), rotated by the row's position; q written
//           back, k and v stored into the row's slot of their pages. fill_slots: slots and
//           positions of a step.
// In/out:   qkv [m, num_heads + 2 num_kv_heads, head_dim] bf16 or f16; positions [m]; cos, sin
//           [max_position, rotary_dim / 2] float32; slots [m] int64; k_pages, v_pages [num_pages,
//           num_kv_heads, page_size, head_dim] bf16, f16 or e4m3, strides given.
// Units:    slot = page * page_size + place, negative: not stored. Strides in elements.
// Launch:   256 threads; a group of 8, 16 or 32 lanes a head (the next power of two of head_dim /
//           8), each lane 8 channels; grid (m, heads / groups of a block).
// Needs:    head_dim a multiple of 8, <= 256; rotary_dim a multiple of 16; page_size a power of
//           two.
// Numerics: float32 between one rounding in and one out; the partner of a rotated channel comes by
//           shuffle. e4m3: value / scale, saturating.
// Source:   ours.
// Measured: rope_store: H100, 2026-11-28, 32/8 heads of 128: 8192 rows 80 us, 81 % of the read
//           rate; 1 row 1.8 us. fill_slots, once a step, in the whole steps of
//           bench/results/2026-11-28-cuda-engine-h200.md.

#include "kernels/cuda/device/pdl.cuh"
#include "kernels/cuda/device/reduce.cuh"
#include "kernels/cuda/device/vec.cuh"
#include "kernels/cuda/elementwise_launch.h"
#include "kernels/cuda/launch.cuh"

namespace foveal::kernels::cuda {
namespace {

constexpr int kThreads = 256;

template <class Norm>
__device__ Vec8 norm_weight(const void* weight, int at, bool active) {
  return active ? load8(static_cast<const Norm*>(weight), at) : Vec8{};
}

/// All lanes of the group call it; `x` of lanes past the head is zero.
template <int kGroup>
__device__ void normalise(Vec8& x, const void* weight, int at, bool active,
                          const RopeStoreParams& p) {
  float squares = 0;
#pragma unroll
  for (int i = 0; i < 8; ++i) squares = fmaf(x.v[i], x.v[i], squares);
  const float mean = group_sum<kGroup>(squares) / static_cast<float>(p.head_dim);
  const float rms = 1.0F / sqrtf(mean + p.norm_eps);
  const Vec8 w = p.norm_dtype == DType::kF32 ? norm_weight<float>(weight, at, active)
                                             : norm_weight<__nv_bfloat16>(weight, at, active);
#pragma unroll
  for (int i = 0; i < 8; ++i) x.v[i] = x.v[i] * rms * (w.v[i] + p.norm_offset);
}

/// Channels i and i + rotary_dim / 2: whole vectors apart, so the partner is another lane's.
template <int kGroup>
__device__ void rotate_half(Vec8& x, int vec, const float* cosines, const float* sines,
                            int half_vecs) {
  const bool first = vec < half_vecs;
  const bool rotated = vec < 2 * half_vecs;
  const int partner = rotated ? (first ? vec + half_vecs : vec - half_vecs) : vec;
  Vec8 other;
#pragma unroll
  for (int i = 0; i < 8; ++i) other.v[i] = __shfl_sync(0xffffffffU, x.v[i], partner, kGroup);
  if (!rotated) return;
  const int at = (first ? vec : partner) * 8;
  const Vec8 c = load8(cosines, at);
  const Vec8 s = load8(sines, at);
  const float sign = first ? -1.0F : 1.0F;
#pragma unroll
  for (int i = 0; i < 8; ++i) x.v[i] = x.v[i] * c.v[i] + sign * other.v[i] * s.v[i];
}

__device__ void rotate_interleaved(Vec8& x, int vec, const float* cosines, const float* sines,
                                   int half_vecs) {
  if (vec >= 2 * half_vecs) return;
  const float4 c4 = *reinterpret_cast<const float4*>(cosines + vec * 4);
  const float4 s4 = *reinterpret_cast<const float4*>(sines + vec * 4);
  const float c[4] = {c4.x, c4.y, c4.z, c4.w};
  const float s[4] = {s4.x, s4.y, s4.z, s4.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float a = x.v[2 * i];
    const float b = x.v[2 * i + 1];
    x.v[2 * i] = a * c[i] - b * s[i];
    x.v[2 * i + 1] = b * c[i] + a * s[i];
  }
}

__device__ void store_page(void* pages, int64_t at, const Vec8& x, float scale, DType dtype) {
  if (dtype == DType::kBF16) {
    store8(static_cast<__nv_bfloat16*>(pages), at, x);
  } else if (dtype == DType::kF16) {
    store8(static_cast<__half*>(pages), at, x);
  } else {
    store_e4m3(static_cast<uint8_t*>(pages) + at, x, scale);
  }
}

template <int kGroup, class T>
__global__ void __launch_bounds__(kThreads) rope_store_kernel(RopeStoreParams p, int page_shift) {
  let_next_start();
  wait_for_previous();
  const int vec = static_cast<int>(threadIdx.x) % kGroup;
  const int head = static_cast<int>((blockIdx.y * kThreads + threadIdx.x) / kGroup);
  const int num_rotated = p.num_heads + p.num_kv_heads;
  // Groups of a warp stay together for the shuffles, whatever is left to do.
  const bool active = vec * 8 < p.head_dim && head < num_rotated + p.num_kv_heads;
  const int64_t row = blockIdx.x;
  T* x_ptr = static_cast<T*>(p.qkv) + row * p.row_stride + int64_t{head} * p.head_dim;
  Vec8 x = active ? load8(x_ptr, vec * 8) : Vec8{};
  const bool is_q = head < p.num_heads;
  if (p.q_norm != nullptr) {
    Vec8 normed = x;
    normalise<kGroup>(normed, is_q ? p.q_norm : p.k_norm, vec * 8, active, p);
    if (head < num_rotated) x = normed;
  }
  if (p.rotary_dim > 0) {
    const int64_t at = int64_t{p.positions[row]} * (p.rotary_dim / 2);
    Vec8 rotated = x;
    if (p.style == RopeStyle::kHalf) {
      rotate_half<kGroup>(rotated, vec, p.cos_table + at, p.sin_table + at, p.rotary_dim / 16);
    } else {
      rotate_interleaved(rotated, vec, p.cos_table + at, p.sin_table + at, p.rotary_dim / 16);
    }
    if (head < num_rotated) x = rotated;
  }
  if (!active) return;
  if (is_q) {
    store8(x_ptr, vec * 8, x);
    return;
  }
  const int64_t slot = p.slots[row];
  if (slot < 0) return;
  const bool is_k = head < num_rotated;
  const int64_t kv_head = head - (is_k ? p.num_heads : num_rotated);
  const int64_t at = (slot >> page_shift) * p.page_stride + kv_head * p.head_stride +
                     (slot & (p.page_size - 1)) * p.token_stride + vec * 8;
  store_page(is_k ? p.k_pages : p.v_pages, at, x, is_k ? p.k_scale : p.v_scale, p.kv_dtype);
}

template <class T>
void launch_typed(const RopeStoreParams& p, void* stream) {
  const unsigned group = p.head_dim <= 64 ? 8 : p.head_dim <= 128 ? 16 : 32;
  const auto heads = static_cast<unsigned>(p.num_heads + 2 * p.num_kv_heads);
  const unsigned per_block = kThreads / group;
  const Grid grid{.blocks = {static_cast<unsigned>(p.m), (heads + per_block - 1) / per_block},
                  .threads = {kThreads}};
  const auto kernel = group == 8    ? rope_store_kernel<8, T>
                      : group == 16 ? rope_store_kernel<16, T>
                                    : rope_store_kernel<32, T>;
  const int page_shift = __builtin_ctz(static_cast<unsigned>(p.page_size));
  launch("rope_store", kernel, grid, stream, p, page_shift);
}

__global__ void __launch_bounds__(kThreads) fill_slots_kernel(FillSlotsParams p) {
  let_next_start();
  wait_for_previous();
  const int row = static_cast<int>(blockIdx.x * kThreads + threadIdx.x);
  if (row >= p.num_rows) return;
  int seq = row;
  int begin = row;
  int end = row + 1;
  if (p.cu_q != nullptr) {  // the last sequence that begins at or before the row
    int low = 0;
    int high = p.num_seqs;
    while (high - low > 1) {
      const int mid = (low + high) / 2;
      (p.cu_q[mid] <= row ? low : high) = mid;
    }
    seq = low;
    begin = p.cu_q[seq];
    end = p.cu_q[seq + 1];
  }
  const int position = p.kv_len[seq] - (end - begin) + (row - begin);
  const int page = p.page_table[seq * p.page_table_stride + position / p.page_size];
  p.positions[row] = position + (p.evicted != nullptr ? p.evicted[seq] : 0);
  p.slots[row] = page < 0 ? -1 : int64_t{page} * p.page_size + position % p.page_size;
}

}  // namespace

void rope_store_launch(const RopeStoreParams& params, void* stream) {
  if (params.dtype == DType::kBF16) {
    launch_typed<__nv_bfloat16>(params, stream);
  } else {
    launch_typed<__half>(params, stream);
  }
}

void fill_slots_launch(const FillSlotsParams& params, void* stream) {
  const Grid grid{.blocks = {static_cast<unsigned>((params.num_rows + kThreads - 1) / kThreads)},
                  .threads = {kThreads}};
  launch("fill_slots", fill_slots_kernel, grid, stream, params);
}

}  // namespace foveal::kernels::cuda

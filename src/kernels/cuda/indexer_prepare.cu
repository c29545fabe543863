// Computes: y = Hadamard(x) / sqrt(head_dim) of each vector of q and k; scale = max(|y|, 1e-4) /
//           448 rounded up to a power of two; y / scale in e4m3. Keys go to their slots; weights
//           take the queries' scales and 1 / sqrt(num_heads * head_dim).
// In/out:   include/foveal/kernels_indexer.h.
// Units:    channels; a vector is head_dim of them.
// Launch:   256 threads; head_dim / 8 lanes a vector, 8 channels a lane.
// Needs:    head_dim 32, 64 or 128; rows of q and k at multiples of 16 bytes.
// Numerics: float32, additions in the order of attention/dsa's index_quantise.h: the same bits.
// Source:   DeepSeek-V3.2's act_quant and rotate_activation (its inference code), rewritten.
// Measured: docs/kernels/cuda_indexer.md

#include "kernels/cuda/device/pdl.cuh"
#include "kernels/cuda/device/vec.cuh"
#include "kernels/cuda/indexer_launch.h"
#include "kernels/cuda/launch.cuh"

namespace foveal::kernels::cuda {
namespace {

constexpr int kThreads = 256;

__device__ void butterfly(float& a, float& b) {
  const float sum = a + b;
  b = a - b;
  a = sum;
}

/// Unscaled; channels 8 * lane + i of the vector.
template <int kLanes>
__device__ void hadamard(Vec8& x) {
#pragma unroll
  for (int half = 1; half < 8; half *= 2) {
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      if ((i & half) == 0) butterfly(x.v[i], x.v[i + half]);
    }
  }
#pragma unroll
  for (int step = 1; step < kLanes; step *= 2) {
    const bool second = (threadIdx.x & step) != 0;
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const float other = __shfl_xor_sync(0xffffffffU, x.v[i], step);
      x.v[i] = second ? other - x.v[i] : x.v[i] + other;
    }
  }
}

/// x becomes codes' arguments; the scale, or NaN with x zeros.
template <int kLanes>
__device__ float rotate_and_scale(Vec8& x) {
  hadamard<kLanes>(x);
  const float unit = 1.0F / sqrtf(static_cast<float>(8 * kLanes));
  float largest = 1e-4F;
  bool finite = true;
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    x.v[i] *= unit;
    largest = fmaxf(largest, fabsf(x.v[i]));
    finite = finite && isfinite(x.v[i]);
  }
#pragma unroll
  for (int step = 1; step < kLanes; step *= 2) {
    largest = fmaxf(largest, __shfl_xor_sync(0xffffffffU, largest, step));
    finite = __shfl_xor_sync(0xffffffffU, finite ? 1 : 0, step) != 0 && finite;
  }
  if (!finite) {
    x = {};
    return __int_as_float(0x7fc00000);
  }
  return __uint_as_float((__float_as_uint(largest / 448.0F) + 0x7fffffU) & 0x7f800000U);
}

/// Where row's key goes: its page's bytes and its place in them; null: nowhere.
__device__ uint8_t* page_of(const foveal_indexer_prepare_params& p, int32_t row, int32_t& place) {
  int32_t seq = row;
  int32_t behind = 1;  // rows of the sequence from this one on
  if (p.cu_q != nullptr) {
    int32_t low = 0;
    int32_t high = p.num_seqs;
    while (high - low > 1) {  // the last sequence that begins at or before the row
      const int32_t mid = (low + high) / 2;
      (p.cu_q[mid] <= row ? low : high) = mid;
    }
    seq = low;
    behind = p.cu_q[seq + 1] - row;
  }
  const int32_t position = p.kv_len[seq] - behind;
  if (position < 0 || behind < 1) return nullptr;
  place = position % p.keys.page_size;
  const int32_t page = p.page_table[seq * p.page_table_stride + position / p.keys.page_size];
  if (page < 0) return nullptr;
  return static_cast<uint8_t*>(p.keys.data) + page * p.keys.page_bytes;
}

template <int kLanes>
__global__ void __launch_bounds__(kThreads)
    indexer_prepare_kernel(foveal_indexer_prepare_params p, float weight_scale) {
  let_next_start();
  wait_for_previous();
  constexpr int kDim = 8 * kLanes;
  const int heads = p.q == nullptr ? 0 : p.num_heads;
  const int64_t vector = (int64_t{blockIdx.x} * kThreads + threadIdx.x) / kLanes;
  const bool active = vector < int64_t{p.num_rows} * (heads + 1);  // whole warps reach the shuffles
  const auto row = active ? static_cast<int32_t>(vector / (heads + 1)) : 0;
  const auto head = active ? static_cast<int32_t>(vector % (heads + 1)) : 0;
  const bool is_key = head == heads;
  const int at = static_cast<int>(threadIdx.x) % kLanes * 8;
  const auto* q = static_cast<const __nv_bfloat16*>(p.q);
  const auto* k = static_cast<const __nv_bfloat16*>(p.k);
  Vec8 x = is_key ? load8(k, row * p.k_row_stride + at)
                  : load8(q, row * p.q_row_stride + head * kDim + at);
  const float scale = rotate_and_scale<kLanes>(x);
  if (!active) return;
  const float divisor = isfinite(scale) ? scale : 1.0F;
  if (!is_key) {
    const int64_t out = int64_t{row} * heads + head;
    store_e4m3(static_cast<uint8_t*>(p.q_out) + out * kDim + at, x, divisor);
    if (at == 0) {
      p.weights_out[out] = p.weights[row * p.weights_row_stride + head] * weight_scale * scale;
    }
    return;
  }
  int32_t place = 0;
  uint8_t* page = page_of(p, row, place);
  if (page == nullptr) return;
  store_e4m3(page + place * kDim + at, x, divisor);
  if (at == 0) reinterpret_cast<float*>(page + p.keys.page_size * kDim)[place] = scale;
}

}  // namespace

void launch_indexer_prepare(const foveal_indexer_prepare_params& params, void* stream) {
  const int lanes = params.head_dim / 8;
  const int64_t vectors =
      int64_t{params.num_rows} * (params.q == nullptr ? 1 : params.num_heads + 1);
  const int64_t blocks = (vectors * lanes + kThreads - 1) / kThreads;
  const auto kernel = lanes == 4   ? indexer_prepare_kernel<4>
                      : lanes == 8 ? indexer_prepare_kernel<8>
                                   : indexer_prepare_kernel<16>;
  const float weight_scale =
      1.0F / sqrtf(static_cast<float>(params.num_heads) * static_cast<float>(params.head_dim));
  launch("indexer_prepare", kernel,
         {.blocks = {static_cast<unsigned>(blocks)}, .threads = {kThreads}}, stream, params,
         weight_scale);
}

}  // namespace foveal::kernels::cuda

// Computes: y[row, col] = bf16(value of the stored element), values as
//           kernels/reference/dequant.cc.
// In/out:   stored [rows, cols] in GGUF blocks of 32 or 256 (q4_0, q4_1, q5_0, q5_1, q8_0, q4_K,
//           q5_K, q6_K), f32, f16 or bf16, rows back to back; y [rows, cols] bf16, row stride
//           y_stride.
// Units:    elements; blocks of dtype_info(dtype).
// Launch:   256 threads, 8 elements and one 16-byte store a thread, at most 16 blocks a
//           multiprocessor.
// Needs:    cols whole blocks and a multiple of 8; y_stride a multiple of 8.
// Numerics: the float32 value has the reference's bits: products and sums are rounded one by one
//           (no contraction); then nearest bf16, ties to even, NaN kept.
// Source:   the GGUF formats; ours.
// Measured: H100, 2026-11-28, 14336 x 4096: q4_K 194 us, q6_K 181, q8_0 92, f16 100: 25 to 76 % of
//           the read rate, and far above any disk.

#include <algorithm>

#include "kernels/cuda/device/pdl.cuh"
#include "kernels/cuda/device/vec.cuh"
#include "kernels/cuda/elementwise_launch.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/launch.h"

namespace foveal::kernels::cuda {
namespace {

constexpr int kThreads = 256;

using Bytes = const uint8_t*;

// Blocks are not aligned to their fields, so these read bytes; they come from the L1 cache.
__device__ uint32_t word(Bytes p) { return p[0] | static_cast<uint32_t>(p[1]) << 8; }
__device__ float half_value(Bytes p) {
  return __half2float(__ushort_as_half(static_cast<uint16_t>(word(p))));
}
__device__ int nibble(Bytes p, int i) { return i < 16 ? p[i] & 15 : p[i - 16] >> 4; }
__device__ int bit(Bytes p, int i) { return (p[i / 8] >> (i % 8)) & 1; }
__device__ float times(float a, int b) { return __fmul_rn(a, static_cast<float>(b)); }

__device__ int k_scale(Bytes p, int sub) {
  return sub < 4 ? p[sub] & 63 : (p[sub + 4] & 15) | ((p[sub - 4] >> 6) << 4);
}
__device__ int k_min(Bytes p, int sub) {
  return sub < 4 ? p[sub + 4] & 63 : (p[sub + 4] >> 4) | ((p[sub] >> 6) << 4);
}

template <bool kFive>
__device__ float element_k(Bytes p, int i) {
  const int sub = i / 32;
  const Bytes quants = p + (kFive ? 48 : 16);
  int q = (quants[sub / 2 * 32 + i % 32] >> (sub % 2 * 4)) & 15;
  if (kFive) q += ((p[16 + i % 32] >> sub) & 1) * 16;
  const float scale = times(half_value(p), k_scale(p + 4, sub));
  const float min = times(half_value(p + 2), k_min(p + 4, sub));
  return __fsub_rn(times(scale, q), min);
}

__device__ float element_q6k(Bytes p, int i) {
  const int part = i / 128;
  const int within = i % 128;
  const int low = p[part * 64 + within % 64] >> (within / 64 * 4) & 15;
  const int high = p[128 + part * 32 + within % 32] >> (within / 32 * 2) & 3;
  const auto scale = static_cast<int8_t>(p[192 + i / 16]);
  return times(times(half_value(p + 208), scale), low + high * 16 - 32);
}

/// Element `i` of the block at `p`. One instance a format, so that the divisions are by constants.
template <DType kType>
__device__ __forceinline__ float element(Bytes p, int i) {
  if constexpr (kType == DType::kQ4_0) return times(half_value(p), nibble(p + 2, i) - 8);
  if constexpr (kType == DType::kQ4_1) {
    return __fadd_rn(times(half_value(p), nibble(p + 4, i)), half_value(p + 2));
  }
  if constexpr (kType == DType::kQ5_0) {
    return times(half_value(p), nibble(p + 6, i) + 16 * bit(p + 2, i) - 16);
  }
  if constexpr (kType == DType::kQ5_1) {
    return __fadd_rn(times(half_value(p), nibble(p + 8, i) + 16 * bit(p + 4, i)),
                     half_value(p + 2));
  }
  if constexpr (kType == DType::kQ8_0) {
    return times(half_value(p), static_cast<int8_t>(p[2 + i]));
  }
  if constexpr (kType == DType::kQ4_K) return element_k<false>(p, i);
  if constexpr (kType == DType::kQ5_K) return element_k<true>(p, i);
  if constexpr (kType == DType::kQ6_K) return element_q6k(p, i);
  if constexpr (kType == DType::kF16) return half_value(p);
  if constexpr (kType == DType::kBF16) return __uint_as_float(word(p) << 16);
  if constexpr (kType == DType::kF32) return __uint_as_float(word(p) | word(p + 2) << 16);
}

/// As base/half.h: keeps the sign and the leading bits of a NaN, which the intrinsic does not.
__device__ uint32_t bf16_bits(float value) {
  const uint32_t bits = __float_as_uint(value);
  if ((bits & 0x7fffffffU) > 0x7f800000U) return (bits >> 16) | 0x40U;
  return (bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16;
}

template <DType kType, int kBlock, int kBytes>
__global__ void __launch_bounds__(kThreads) expand_kernel(ExpandParams p) {
  let_next_start();
  wait_for_previous();
  const int64_t vecs = p.cols / 8;
  const int64_t total = p.rows * vecs;
  const int64_t row_bytes = p.cols / kBlock * kBytes;
  for (int64_t item = int64_t{blockIdx.x} * kThreads + threadIdx.x; item < total;
       item += int64_t{gridDim.x} * kThreads) {
    const int64_t row = item / vecs;
    const int64_t col = (item - row * vecs) * 8;
    const Bytes stored = static_cast<Bytes>(p.stored) + row * row_bytes;
    uint32_t words[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const auto value = [&](int64_t at) {
        return bf16_bits(
            element<kType>(stored + at / kBlock * kBytes, static_cast<int>(at % kBlock)));
      };
      words[i] = value(col + 2 * i) | value(col + 2 * i + 1) << 16;
    }
    *reinterpret_cast<uint4*>(p.y + row * p.y_stride + col) = {words[0], words[1], words[2],
                                                               words[3]};
  }
}

template <DType kType, int kBlock, int kBytes>
void launch_type(const ExpandParams& p, void* stream) {
  const int64_t blocks = (p.rows * (p.cols / 8) + kThreads - 1) / kThreads;
  const auto most = int64_t{16} * num_multiprocessors();
  const Grid grid{.blocks = {static_cast<unsigned>(std::min(blocks, most))}, .threads = {kThreads}};
  launch("expand", expand_kernel<kType, kBlock, kBytes>, grid, stream, p);
}

}  // namespace

void expand_launch(const ExpandParams& params, void* stream) {
  switch (params.dtype) {
    case DType::kQ4_0:
      return launch_type<DType::kQ4_0, 32, 18>(params, stream);
    case DType::kQ4_1:
      return launch_type<DType::kQ4_1, 32, 20>(params, stream);
    case DType::kQ5_0:
      return launch_type<DType::kQ5_0, 32, 22>(params, stream);
    case DType::kQ5_1:
      return launch_type<DType::kQ5_1, 32, 24>(params, stream);
    case DType::kQ8_0:
      return launch_type<DType::kQ8_0, 32, 34>(params, stream);
    case DType::kQ4_K:
      return launch_type<DType::kQ4_K, 256, 144>(params, stream);
    case DType::kQ5_K:
      return launch_type<DType::kQ5_K, 256, 176>(params, stream);
    case DType::kQ6_K:
      return launch_type<DType::kQ6_K, 256, 210>(params, stream);
    case DType::kF16:
      return launch_type<DType::kF16, 1, 2>(params, stream);
    case DType::kBF16:
      return launch_type<DType::kBF16, 1, 2>(params, stream);
    default:
      return launch_type<DType::kF32, 1, 4>(params, stream);
  }
}

}  // namespace foveal::kernels::cuda

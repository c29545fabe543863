#pragma once

// Stored weights to float32, exactly as GGUF defines each format (the products are exact, so a
// fused multiply-add would give the same bits). One source; each level's compiler vectorises it.

#include "base/dtype.h"
#include "kernels/cpu/simd/e4m3.h"
#include "kernels/cpu/simd/gemm_vec.h"
#include "kernels/cpu/simd/unpack_words.h"

namespace foveal::kernels::cpu::FOVEAL_ISA_NS {

FOVEAL_SIMD float read_half(const uint8_t* p) {
  uint16_t bits;
  __builtin_memcpy(&bits, p, sizeof(bits));
  return half_to_float(bits);
}

/// Sub-block scale and minimum j of 8 in a Q4_K or Q5_K block: 6 bits each, the last four split.
FOVEAL_SIMD void k_scale(const uint8_t* s, int j, int* scale, int* min) {
  if (j < 4) {
    *scale = s[j] & 63;
    *min = s[j + 4] & 63;
  } else {
    *scale = (s[j + 4] & 15) | ((s[j - 4] >> 6) << 4);
    *min = (s[j + 4] >> 4) | ((s[j] >> 6) << 4);
  }
}

// A few elements at a time in the compiler's own vectors: left to itself, g++ 12 vectorises these
// loops at one level and not at the next.
constexpr int kFew = FOVEAL_ISA_LEVEL >= 1 ? 8 : 4;
using BytesN [[gnu::vector_size(kFew)]] = uint8_t;
using IntsN [[gnu::vector_size(4 * kFew)]] = int32_t;
using FloatsN [[gnu::vector_size(4 * kFew)]] = float;

FOVEAL_SIMD IntsN widen(const uint8_t* p) {
#if FOVEAL_ISA_LEVEL >= 1
  return (IntsN)_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
#else
  BytesN bytes;
  __builtin_memcpy(&bytes, p, sizeof(bytes));
  return __builtin_convertvector(bytes, IntsN);
#endif
}

/// out = scale * q + min, for kFew elements.
template <bool kMin>
FOVEAL_SIMD void scale_few(IntsN q, float scale, float min, float* out) {
  FloatsN value = __builtin_convertvector(q, FloatsN) * scale;
  if (kMin) value = value + min;
  __builtin_memcpy(out, &value, sizeof(value));
}

/// Bit `first` + i of `bits`, moved to bit 4 of element i.
FOVEAL_SIMD IntsN fifth_bits(uint32_t bits, int first) {
  IntsN place;
  for (int idx = 0; idx < kFew; ++idx) place[idx] = first + idx;
  return ((static_cast<int32_t>(bits) >> place) & 1) << 4;
}

/// Element i is the low, i + 16 the high nibble of byte i; bit i of `high`, if given, its fifth
/// bit.
template <int kOffset, bool kMin>
FOVEAL_SIMD void unpack_small(const uint8_t* high, const uint8_t* qs, float scale, float min,
                              float* out) {
  uint32_t bits = 0;
  if (high != nullptr) __builtin_memcpy(&bits, high, sizeof(bits));
  for (int idx = 0; idx < 16; idx += kFew) {
    const IntsN bytes = widen(qs + idx);
    IntsN low = bytes & 15;
    IntsN upper = bytes >> 4;
    if (high != nullptr) {
      low |= fifth_bits(bits, idx);
      upper |= fifth_bits(bits, idx + 16);
    }
    scale_few<kMin>(low - kOffset, scale, min, out + idx);
    scale_few<kMin>(upper - kOffset, scale, min, out + idx + 16);
  }
}

FOVEAL_SIMD void unpack_q8(const uint8_t* qs, float scale, float* out) {
  for (int idx = 0; idx < 32; idx += kFew) {
    // two's complement by flipping the sign bit and taking its weight away
    scale_few<false>((widen(qs + idx) ^ 128) - 128, scale, 0, out + idx);
  }
}

FOVEAL_SIMD void unpack_e4m3(const uint8_t* block, float* out) {
  float scale;
  __builtin_memcpy(&scale, block, sizeof(scale));
  for (int idx = 0; idx < 32; idx += kLanes) {
    store(out + idx, load_e4m3(block + 4 + idx) * set1(scale));
  }
}

/// 256 elements. Q5_K's fifth bits (null for Q4_K): bit j of high[i] belongs to sub-block j.
FOVEAL_SIMD void unpack_k(const uint8_t* block, const uint8_t* high, const uint8_t* qs,
                          float* out) {
  const float d = read_half(block);
  const float dmin = read_half(block + 2);
  for (int sub = 0; sub < 8; ++sub) {
    int scale;
    int min;
    k_scale(block + 4, sub, &scale, &min);
    const float s = d * static_cast<float>(scale);
    const float b = -(dmin * static_cast<float>(min));
    for (int idx = 0; idx < 32; idx += kFew) {
      IntsN q = (widen(qs + 32 * (sub / 2) + idx) >> (4 * (sub % 2))) & 15;
      if (high != nullptr) q |= ((widen(high + idx) >> sub) & 1) << 4;
      scale_few<true>(q, s, b, out + 32 * sub + idx);
    }
  }
}

FOVEAL_SIMD void unpack_q6k(const uint8_t* block, float* out) {
  const float d = read_half(block + 208);
  for (int part = 0; part < 8; ++part) {  // 32 elements each
    const uint8_t* low = block + 64 * (part / 4) + 32 * (part % 2);
    const uint8_t* high = block + 128 + 32 * (part / 4);
    const int low_shift = part % 4 < 2 ? 0 : 4;
    const int high_shift = 2 * (part % 4);
    for (int idx = 0; idx < 32; idx += kFew) {
      const auto scale = static_cast<int8_t>(block[192 + 2 * part + idx / 16]);
      const IntsN q =
          ((widen(low + idx) >> low_shift) & 15) | (((widen(high + idx) >> high_shift) & 3) << 4);
      scale_few<false>(q - 32, d * static_cast<float>(scale), 0, out + 32 * part + idx);
    }
  }
}
FOVEAL_SIMD void unpack_floats(DType dtype, const uint8_t* src, int64_t len, float* out) {
  if (dtype == DType::kF32) {
    __builtin_memcpy(out, src, static_cast<size_t>(len) * 4);
  } else if (dtype == DType::kBF16) {
    for (int64_t idx = 0; idx < len; ++idx) {
      uint16_t bits;
      __builtin_memcpy(&bits, src + 2 * idx, 2);
      const uint32_t word = static_cast<uint32_t>(bits) << 16;
      __builtin_memcpy(out + idx, &word, 4);
    }
  } else {
    int64_t idx = 0;
    for (; idx + kLanes <= len; idx += kLanes) {
      uint16_t halves[kLanes];
      __builtin_memcpy(halves, src + 2 * idx, sizeof(halves));
      store(out + idx, load_f16(halves));
    }
    for (; idx < len; ++idx) out[idx] = read_half(src + 2 * idx);
  }
}

/// Elements [begin, begin + len) of a stored row; both multiples of the format's block. Zeroes
/// follow up to `padded`.
[[maybe_unused]] static void unpack_row(DType dtype, const uint8_t* row, int64_t begin, int64_t len,
                                        int64_t padded, float* out) {
  for (int64_t idx = len; idx < padded; ++idx) out[idx] = 0;
#if FOVEAL_ISA_LEVEL >= 3
  if (unpack_by_words(dtype, row, begin, len, out)) return;
#endif
  const uint8_t* src = row;
  switch (dtype) {
    case DType::kQ4_0:
      src += begin / 32 * 18;
      for (int64_t k = 0; k < len; k += 32, src += 18) {
        unpack_small<8, false>(nullptr, src + 2, read_half(src), 0, out + k);
      }
      return;
    case DType::kQ4_1:
      src += begin / 32 * 20;
      for (int64_t k = 0; k < len; k += 32, src += 20) {
        unpack_small<0, true>(nullptr, src + 4, read_half(src), read_half(src + 2), out + k);
      }
      return;
    case DType::kQ5_0:
      src += begin / 32 * 22;
      for (int64_t k = 0; k < len; k += 32, src += 22) {
        unpack_small<16, false>(src + 2, src + 6, read_half(src), 0, out + k);
      }
      return;
    case DType::kQ5_1:
      src += begin / 32 * 24;
      for (int64_t k = 0; k < len; k += 32, src += 24) {
        unpack_small<0, true>(src + 4, src + 8, read_half(src), read_half(src + 2), out + k);
      }
      return;
    case DType::kQ8_0:
      src += begin / 32 * 34;
      for (int64_t k = 0; k < len; k += 32, src += 34) {
        unpack_q8(src + 2, read_half(src), out + k);
      }
      return;
    case DType::kE4M3x32:
      src += begin / 32 * 36;
      for (int64_t k = 0; k < len; k += 32, src += 36) unpack_e4m3(src, out + k);
      return;
    case DType::kQ4_K:
      src += begin / 256 * 144;
      for (int64_t k = 0; k < len; k += 256, src += 144) unpack_k(src, nullptr, src + 16, out + k);
      return;
    case DType::kQ5_K:
      src += begin / 256 * 176;
      for (int64_t k = 0; k < len; k += 256, src += 176) unpack_k(src, src + 16, src + 48, out + k);
      return;
    case DType::kQ6_K:
      src += begin / 256 * 210;
      for (int64_t k = 0; k < len; k += 256, src += 210) unpack_q6k(src, out + k);
      return;
    default:
      unpack_floats(dtype, row + begin * (dtype == DType::kF32 ? 4 : 2), len, out);
  }
}

}  // namespace foveal::kernels::cpu::FOVEAL_ISA_NS

#pragma once

// Quantised rows to float32 by way of bf16 integers, for level avx512bf16.

#include "base/dtype.h"
#include "kernels/cpu/simd/quant_words.h"

#if FOVEAL_ISA_LEVEL >= 3

namespace foveal::kernels::cpu::FOVEAL_ISA_NS {

/// Lanes of two vectors alternately: 16 pairs to 32 floats in order.
FOVEAL_SIMD void store_interleaved(float* out, F32 even, F32 odd) {
  const __m512i low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
  const __m512i high =
      _mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
  _mm512_storeu_ps(out, _mm512_permutex2var_ps(even.v, low, odd.v));
  _mm512_storeu_ps(out + 16, _mm512_permutex2var_ps(even.v, high, odd.v));
}

template <class Format>
void unpack_words(const uint8_t* row, int64_t begin, int64_t len, float* out) {
  alignas(64) float scale[kScaleFloats];
  alignas(64) float min[kChunkGroups];
  for (int64_t first = 0; first < len / 32; first += kChunkGroups) {
    const int64_t left = len / 32 - first;
    const int groups = left < kChunkGroups ? static_cast<int>(left) : kChunkGroups;
    const uint8_t* chunk = row + (begin / 32 + first) / Format::kGroups * Format::kBytes;
    Format::scales(chunk, groups, scale, min);
    for (int group = 0; group < groups; group += Format::kUnit) {
      Pairs words[Format::kUnit];
      Format::words(chunk, group, words);
#pragma GCC unroll 4
      for (int unit = 0; unit < Format::kUnit; ++unit) {
        const F32 by = Format::scale_at(scale, group + unit);
        F32 even = widen_even(words[unit]) * by;
        F32 odd = widen_odd(words[unit]) * by;
        if (Format::kMin) {
          const F32 add = set1(min[group + unit]);
          even = even + add;
          odd = odd + add;
        }
        store_interleaved(out + 32 * (first + group + unit), even, odd);
      }
    }
  }
}

/// False for float dtypes.
FOVEAL_SIMD bool unpack_by_words(DType dtype, const uint8_t* row, int64_t begin, int64_t len,
                                 float* out) {
  switch (dtype) {
    case DType::kQ4_0:
      unpack_words<WordsQ4_0>(row, begin, len, out);
      return true;
    case DType::kQ4_1:
      unpack_words<WordsQ4_1>(row, begin, len, out);
      return true;
    case DType::kQ5_0:
      unpack_words<WordsQ5_0>(row, begin, len, out);
      return true;
    case DType::kQ5_1:
      unpack_words<WordsQ5_1>(row, begin, len, out);
      return true;
    case DType::kQ8_0:
      unpack_words<WordsQ8_0>(row, begin, len, out);
      return true;
    case DType::kE4M3x32:
      unpack_words<WordsE4M3>(row, begin, len, out);
      return true;
    case DType::kQ4_K:
      unpack_words<WordsQ4_K>(row, begin, len, out);
      return true;
    case DType::kQ5_K:
      unpack_words<WordsQ5_K>(row, begin, len, out);
      return true;
    case DType::kQ6_K:
      unpack_words<WordsQ6_K>(row, begin, len, out);
      return true;
    default:
      return false;
  }
}

}  // namespace foveal::kernels::cpu::FOVEAL_ISA_NS

#endif

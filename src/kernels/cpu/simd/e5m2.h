#pragma once

#include "kernels/cpu/simd/vec.h"

// float8 e5m2 is the upper byte of a float16.

namespace foveal::kernels::cpu::FOVEAL_ISA_NS {

/// The first n bytes, 0 <= n <= kLanes; the rest 0.
#if FOVEAL_ISA_LEVEL >= 2
FOVEAL_SIMD F32 widen_e5m2(__m128i bytes) {
  return {_mm512_cvtph_ps(_mm256_slli_epi16(_mm256_cvtepu8_epi16(bytes), 8))};
}
FOVEAL_SIMD F32 load_e5m2(const uint8_t* p) {
  return widen_e5m2(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
FOVEAL_SIMD F32 load_e5m2_n(const uint8_t* p, int n) {
  return widen_e5m2(_mm_maskz_loadu_epi8(tail_bits(n), p));
}
/// Eight values from each of two places.
FOVEAL_SIMD F32 load_e5m2_two(const uint8_t* p, const uint8_t* q) {
  return widen_e5m2(_mm_unpacklo_epi64(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)),
                                       _mm_loadl_epi64(reinterpret_cast<const __m128i*>(q))));
}
FOVEAL_SIMD F32 load_bf16_two(const uint16_t* p, const uint16_t* q) {
  const __m128i low = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  const __m128i high = _mm_loadu_si128(reinterpret_cast<const __m128i*>(q));
  return bf16_bits_to_f32(_mm256_inserti128_si256(_mm256_castsi128_si256(low), high, 1));
}
#if FOVEAL_ISA_LEVEL >= 3
/// The bytes of the bf16 that each magnitude is, exactly.
struct E5m2Table {
  alignas(64) uint8_t low[128] = {};
  alignas(64) uint8_t high[128] = {};

  constexpr E5m2Table() {
    for (uint32_t code = 0; code < 128; ++code) {
      const uint32_t exponent = code >> 2U;
      const uint32_t fraction = code & 3U;
      uint32_t bits = (exponent + 112U) << 7U | fraction << 5U;
      if (exponent == 31) bits = fraction == 0 ? 0x7f80U : 0x7fc0U;
      if (exponent == 0) bits = fraction == 0 ? 0 : 111U << 7U;  // 2^-16
      if (exponent == 0 && fraction > 1) bits = 112U << 7U | (fraction - 2U) << 6U;
      low[code] = static_cast<uint8_t>(bits & 0xffU);
      high[code] = static_cast<uint8_t>(bits >> 8U);
    }
  }
};
inline constexpr E5m2Table kE5m2Table;

/// Lane i = (even[i], odd[i]) as bf16.
FOVEAL_SIMD Pairs widen_e5m2_pairs(__m128i even, __m128i odd) {
  const __m512i ones = _mm512_set1_epi32(0x01010101);
  const __m512i lane = _mm512_mullo_epi32(
      _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0), ones);
  const __m512i order = _mm512_add_epi32(lane, _mm512_set1_epi32(0x40400000));
  const __m512i codes =
      _mm512_permutex2var_epi8(_mm512_castsi128_si512(even), order, _mm512_castsi128_si512(odd));
  // Seven bits of a code index two registers as one table.
  const __m512i low =
      _mm512_mask2_permutex2var_epi8(_mm512_load_si512(kE5m2Table.low), codes,
                                     0x5555555555555555ULL, _mm512_load_si512(kE5m2Table.low + 64));
  const __m512i both =
      _mm512_mask2_permutex2var_epi8(_mm512_load_si512(kE5m2Table.high), low, 0xaaaaaaaaaaaaaaaaULL,
                                     _mm512_load_si512(kE5m2Table.high + 64));
  // 0xf8: both | (codes & sign)
  return {_mm512_ternarylogic_epi32(both, codes, _mm512_set1_epi16(INT16_MIN), 0xf8)};
}
FOVEAL_SIMD Pairs load_e5m2_pairs(const void* even, const void* odd) {
  return widen_e5m2_pairs(_mm_loadu_si128(static_cast<const __m128i*>(even)),
                          _mm_loadu_si128(static_cast<const __m128i*>(odd)));
}
FOVEAL_SIMD Pairs load_e5m2_pairs_n(const void* even, const void* odd, int n) {
  return widen_e5m2_pairs(_mm_maskz_loadu_epi8(tail_bits(n), even),
                          _mm_maskz_loadu_epi8(tail_bits(n), odd));
}
/// Eight values of each from each of two places.
FOVEAL_SIMD Pairs load_e5m2_pairs_two(const void* even, const void* odd, const void* even_too,
                                      const void* odd_too) {
  const auto join = [](const void* p, const void* q) {
    return _mm_unpacklo_epi64(_mm_loadl_epi64(static_cast<const __m128i*>(p)),
                              _mm_loadl_epi64(static_cast<const __m128i*>(q)));
  };
  return widen_e5m2_pairs(join(even, even_too), join(odd, odd_too));
}
#endif
#elif FOVEAL_ISA_LEVEL == 1
FOVEAL_SIMD F32 widen_e5m2(__m128i bytes) {
  return {_mm256_cvtph_ps(_mm_slli_epi16(_mm_cvtepu8_epi16(bytes), 8))};
}
FOVEAL_SIMD F32 load_e5m2(const uint8_t* p) {
  return widen_e5m2(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
}
FOVEAL_SIMD F32 load_e5m2_n(const uint8_t* p, int n) {
  uint64_t bytes = 0;
  __builtin_memcpy(&bytes, p, static_cast<unsigned>(n));
  return widen_e5m2(_mm_cvtsi64_si128(static_cast<int64_t>(bytes)));
}
#else
FOVEAL_SIMD F32 load_e5m2_n(const uint8_t* p, int n) {
  uint16_t half[kLanes] = {};
  for (int lane = 0; lane < n; ++lane) half[lane] = static_cast<uint16_t>(p[lane] << 8);
  return load_f16(half);
}
FOVEAL_SIMD F32 load_e5m2(const uint8_t* p) { return load_e5m2_n(p, kLanes); }
#endif

}  // namespace foveal::kernels::cpu::FOVEAL_ISA_NS

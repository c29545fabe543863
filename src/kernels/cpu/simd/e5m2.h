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

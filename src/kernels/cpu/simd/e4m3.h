#pragma once

#include "kernels/cpu/simd/vec.h"

// float8 e4m3 (no infinities; all ones is a NaN), widened exactly.

namespace foveal::kernels::cpu::FOVEAL_ISA_NS {

#if FOVEAL_ISA_LEVEL >= 3
/// The upper and lower bytes of the 128 non-negative codes as bf16.
struct E4m3Table {
  alignas(64) uint8_t high[128];
  alignas(64) uint8_t low[128];
};
constexpr E4m3Table make_e4m3_table() {
  E4m3Table out{};
  for (unsigned code = 0; code < 128; ++code) {
    unsigned bits = (code << 4) + (120U << 7);
    if (code == 127) bits = 0x7fc0;
    if (code < 8) {  // code * 2^-9, a power of two and up to two bits below it
      unsigned exponent = 118;
      unsigned mantissa = code;
      while (mantissa != 0 && mantissa < 8) {
        mantissa <<= 1;
        --exponent;
      }
      // code * 2^-9 = (mantissa / 8) * 2^(exponent - 127 + 3)
      bits = code == 0 ? 0 : ((exponent + 3) << 7) | ((mantissa & 7U) << 4);
    }
    out.high[code] = static_cast<uint8_t>(bits >> 8);
    out.low[code] = static_cast<uint8_t>(bits & 0xff);
  }
  return out;
}

/// 64 consecutive values as bf16, of which the first n are there (the rest 0): `first` has the
/// first 32.
FOVEAL_SIMD void widen_e4m3(const uint8_t* p, int n, Pairs& first, Pairs& second) {
  static constexpr E4m3Table kTable = make_e4m3_table();
  const __m512i order = _mm512_set_epi64(7, 3, 6, 2, 5, 1, 4, 0);  // undoes the unpacking by lanes
  const __m512i bytes =
      n >= 64 ? _mm512_loadu_si512(p) : _mm512_maskz_loadu_epi8((uint64_t{1} << n) - 1, p);
  const __m512i codes = _mm512_permutexvar_epi64(order, bytes);
  const __m512i low = _mm512_permutex2var_epi8(_mm512_load_si512(kTable.low), codes,
                                               _mm512_load_si512(kTable.low + 64));
  const __m512i magnitude = _mm512_permutex2var_epi8(_mm512_load_si512(kTable.high), codes,
                                                     _mm512_load_si512(kTable.high + 64));
  // 0xf8: magnitude | (codes & sign)
  const __m512i high =
      _mm512_ternarylogic_epi32(magnitude, codes, _mm512_set1_epi8(static_cast<char>(0x80)), 0xf8);
  first = {_mm512_unpacklo_epi8(low, high)};
  second = {_mm512_unpackhi_epi8(low, high)};
}
#endif

#if FOVEAL_ISA_LEVEL >= 2
FOVEAL_SIMD F32 load_e4m3(const uint8_t* p) {
  const __m512i code = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  const __m512i rest = _mm512_and_si512(code, _mm512_set1_epi32(0x7f));
  const __m512i normal =
      _mm512_add_epi32(_mm512_slli_epi32(rest, 20), _mm512_set1_epi32(0x3c000000));
  const __m512i tiny =
      _mm512_castps_si512(_mm512_mul_ps(_mm512_cvtepi32_ps(rest), _mm512_set1_ps(0x1p-9F)));
  __m512i bits =
      _mm512_mask_mov_epi32(normal, _mm512_cmplt_epi32_mask(rest, _mm512_set1_epi32(8)), tiny);
  bits = _mm512_mask_mov_epi32(bits, _mm512_cmpeq_epi32_mask(rest, _mm512_set1_epi32(0x7f)),
                               _mm512_set1_epi32(0x7fc00000));
  const __m512i sign = _mm512_slli_epi32(_mm512_sub_epi32(code, rest), 24);
  return {_mm512_castsi512_ps(_mm512_or_si512(bits, sign))};
}
#elif FOVEAL_ISA_LEVEL == 1
FOVEAL_SIMD F32 load_e4m3(const uint8_t* p) {
  const __m256i code = _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
  const __m256i rest = _mm256_and_si256(code, _mm256_set1_epi32(0x7f));
  const __m256i normal =
      _mm256_add_epi32(_mm256_slli_epi32(rest, 20), _mm256_set1_epi32(0x3c000000));
  const __m256i tiny =
      _mm256_castps_si256(_mm256_mul_ps(_mm256_cvtepi32_ps(rest), _mm256_set1_ps(0x1p-9F)));
  __m256i bits = _mm256_blendv_epi8(normal, tiny, _mm256_cmpgt_epi32(_mm256_set1_epi32(8), rest));
  bits = _mm256_blendv_epi8(bits, _mm256_set1_epi32(0x7fc00000),
                            _mm256_cmpeq_epi32(rest, _mm256_set1_epi32(0x7f)));
  const __m256i sign = _mm256_slli_epi32(_mm256_sub_epi32(code, rest), 24);
  return {_mm256_castsi256_ps(_mm256_or_si256(bits, sign))};
}
#else
FOVEAL_SIMD F32 load_e4m3(const uint8_t* p) {
  const NativeU32 code{p[0], p[1], p[2], p[3]};
  const NativeU32 rest = code & 0x7fU;
  const NativeF32 tiny = __builtin_convertvector((NativeI32)rest, NativeF32) * 0x1p-9F;
  NativeU32 bits = rest < 8U ? (NativeU32)tiny : (rest << 20) + 0x3c000000U;
  bits = rest == 0x7fU ? NativeU32{0x7fc00000, 0x7fc00000, 0x7fc00000, 0x7fc00000} : bits;
  return {(NativeF32)(bits | ((code - rest) << 24))};
}
#endif

}  // namespace foveal::kernels::cpu::FOVEAL_ISA_NS

#pragma once

#include <cstdint>

#include "kernels/cpu/simd/intrinsics.h"

namespace foveal::kernels::cpu::FOVEAL_ISA_NS {

inline constexpr int kLanes = 8;

struct F32 {
  __m256 v;
};
struct Mask {
  __m256 m;
};
struct Pairs {
  __m256i v;
};

FOVEAL_SIMD F32 zero() { return {_mm256_setzero_ps()}; }
FOVEAL_SIMD F32 set1(float x) { return {_mm256_set1_ps(x)}; }
FOVEAL_SIMD F32 load(const float* p) { return {_mm256_loadu_ps(p)}; }
FOVEAL_SIMD void store(float* p, F32 a) { _mm256_storeu_ps(p, a.v); }
FOVEAL_SIMD __m256i tail_bits(int n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
/// The first n lanes, 0 <= n <= kLanes; the rest 0 (load) or untouched (store).
FOVEAL_SIMD F32 load_n(const float* p, int n) { return {_mm256_maskload_ps(p, tail_bits(n))}; }
FOVEAL_SIMD void store_n(float* p, F32 a, int n) { _mm256_maskstore_ps(p, tail_bits(n), a.v); }
/// 0, 1, 2, ...
FOVEAL_SIMD F32 iota() { return {_mm256_setr_ps(0, 1, 2, 3, 4, 5, 6, 7)}; }

FOVEAL_SIMD F32 operator+(F32 a, F32 b) { return {_mm256_add_ps(a.v, b.v)}; }
FOVEAL_SIMD F32 operator-(F32 a, F32 b) { return {_mm256_sub_ps(a.v, b.v)}; }
FOVEAL_SIMD F32 operator*(F32 a, F32 b) { return {_mm256_mul_ps(a.v, b.v)}; }
FOVEAL_SIMD F32 operator/(F32 a, F32 b) { return {_mm256_div_ps(a.v, b.v)}; }
/// a * b + c
FOVEAL_SIMD F32 fma(F32 a, F32 b, F32 c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }
/// c - a * b
FOVEAL_SIMD F32 fnma(F32 a, F32 b, F32 c) { return {_mm256_fnmadd_ps(a.v, b.v, c.v)}; }
FOVEAL_SIMD F32 max(F32 a, F32 b) { return {_mm256_max_ps(a.v, b.v)}; }
FOVEAL_SIMD F32 min(F32 a, F32 b) { return {_mm256_min_ps(a.v, b.v)}; }
FOVEAL_SIMD F32 sign_bits() { return {_mm256_set1_ps(-0.0F)}; }
FOVEAL_SIMD F32 abs(F32 a) { return {_mm256_andnot_ps(sign_bits().v, a.v)}; }
FOVEAL_SIMD F32 sqrt(F32 a) { return {_mm256_sqrt_ps(a.v)}; }
/// To the nearest integer, ties to even.
FOVEAL_SIMD F32 round(F32 a) {
  return {_mm256_round_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
}
/// The magnitude of `a` with the sign of `b`.
FOVEAL_SIMD F32 copysign(F32 a, F32 b) {
  return {_mm256_or_ps(abs(a).v, _mm256_and_ps(sign_bits().v, b.v))};
}
FOVEAL_SIMD F32 exp2_of_int(__m256i n) {
  return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n, _mm256_set1_epi32(127)), 23))};
}
/// a * 2^n for an integral n in [-151, 129]. In two steps, as 2^n alone may not be a float.
FOVEAL_SIMD F32 scale_exp2(F32 a, F32 n) {
  const __m256i whole = _mm256_cvtps_epi32(n.v);
  const __m256i half = _mm256_srai_epi32(whole, 1);
  return a * exp2_of_int(half) * exp2_of_int(_mm256_sub_epi32(whole, half));
}

FOVEAL_SIMD Mask lt(F32 a, F32 b) { return {_mm256_cmp_ps(a.v, b.v, _CMP_LT_OQ)}; }
FOVEAL_SIMD Mask le(F32 a, F32 b) { return {_mm256_cmp_ps(a.v, b.v, _CMP_LE_OQ)}; }
FOVEAL_SIMD Mask gt(F32 a, F32 b) { return {_mm256_cmp_ps(a.v, b.v, _CMP_GT_OQ)}; }
FOVEAL_SIMD Mask eq(F32 a, F32 b) { return {_mm256_cmp_ps(a.v, b.v, _CMP_EQ_OQ)}; }
FOVEAL_SIMD Mask mask_first(int n) { return {_mm256_castsi256_ps(tail_bits(n))}; }
FOVEAL_SIMD Mask operator&(Mask a, Mask b) { return {_mm256_and_ps(a.m, b.m)}; }
FOVEAL_SIMD Mask operator|(Mask a, Mask b) { return {_mm256_or_ps(a.m, b.m)}; }
/// m ? a : b
FOVEAL_SIMD F32 select(Mask m, F32 a, F32 b) { return {_mm256_blendv_ps(b.v, a.v, m.m)}; }
FOVEAL_SIMD bool any(Mask m) { return _mm256_movemask_ps(m.m) != 0; }
FOVEAL_SIMD bool all(Mask m) { return _mm256_movemask_ps(m.m) == 0xff; }

FOVEAL_SIMD float reduce_add(F32 a) {
  __m128 q = _mm_add_ps(_mm256_castps256_ps128(a.v), _mm256_extractf128_ps(a.v, 1));
  q = _mm_add_ps(q, _mm_movehl_ps(q, q));
  return _mm_cvtss_f32(_mm_add_ss(q, _mm_movehdup_ps(q)));
}
FOVEAL_SIMD float reduce_max(F32 a) {
  __m128 q = _mm_max_ps(_mm256_castps256_ps128(a.v), _mm256_extractf128_ps(a.v, 1));
  q = _mm_max_ps(q, _mm_movehl_ps(q, q));
  return _mm_cvtss_f32(_mm_max_ss(q, _mm_movehdup_ps(q)));
}

/// Eight 16-bit values, in the low halves of 32-bit lanes, as 128 bits.
FOVEAL_SIMD __m128i narrow(__m256i bits) {
  const __m256i packed = _mm256_packus_epi32(bits, bits);
  return _mm256_castsi256_si128(_mm256_permute4x64_epi64(packed, 0x08));
}
FOVEAL_SIMD __m128i load_u16_n(const uint16_t* p, int n) {
  alignas(16) uint16_t buffer[kLanes] = {};
  for (int lane = 0; lane < n; ++lane) buffer[lane] = p[lane];
  return _mm_load_si128(reinterpret_cast<const __m128i*>(buffer));
}
FOVEAL_SIMD void store_u16_n(uint16_t* p, __m128i bits, int n) {
  alignas(16) uint16_t buffer[kLanes];
  _mm_store_si128(reinterpret_cast<__m128i*>(buffer), bits);
  for (int lane = 0; lane < n; ++lane) p[lane] = buffer[lane];
}

FOVEAL_SIMD F32 bf16_bits_to_f32(__m128i bits) {
  return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16))};
}
/// In the low half of each 32-bit lane.
FOVEAL_SIMD __m256i f32_to_bf16_bits(F32 a) {
  const __m256i bits = _mm256_castps_si256(a.v);
  const __m256i high = _mm256_srli_epi32(bits, 16);
  const __m256i lsb = _mm256_and_si256(high, _mm256_set1_epi32(1));
  const __m256i rounded = _mm256_srli_epi32(
      _mm256_add_epi32(bits, _mm256_add_epi32(lsb, _mm256_set1_epi32(0x7fff))), 16);
  const __m256i quiet = _mm256_or_si256(high, _mm256_set1_epi32(0x40));
  const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(a.v, a.v, _CMP_UNORD_Q));
  return _mm256_blendv_epi8(rounded, quiet, nan);
}
FOVEAL_SIMD F32 load_bf16(const uint16_t* p) {
  return bf16_bits_to_f32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
FOVEAL_SIMD F32 load_bf16_n(const uint16_t* p, int n) { return bf16_bits_to_f32(load_u16_n(p, n)); }
FOVEAL_SIMD void store_bf16(uint16_t* p, F32 a) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), narrow(f32_to_bf16_bits(a)));
}
FOVEAL_SIMD void store_bf16_n(uint16_t* p, F32 a, int n) {
  store_u16_n(p, narrow(f32_to_bf16_bits(a)), n);
}

FOVEAL_SIMD __m128i f32_to_f16_bits(F32 a) {
  // The instruction keeps a NaN's payload; half.h makes all of them 0x7e00 with the sign.
  const __m128i bits = _mm256_cvtps_ph(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  const __m128i sign = _mm_and_si128(bits, _mm_set1_epi16(INT16_MIN));
  const __m128i magnitude = _mm_andnot_si128(_mm_set1_epi16(INT16_MIN), bits);
  const __m128i nan = _mm_cmpgt_epi16(magnitude, _mm_set1_epi16(0x7c00));
  return _mm_blendv_epi8(bits, _mm_or_si128(sign, _mm_set1_epi16(0x7e00)), nan);
}
FOVEAL_SIMD F32 load_f16(const uint16_t* p) {
  return {_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)))};
}
FOVEAL_SIMD F32 load_f16_n(const uint16_t* p, int n) { return {_mm256_cvtph_ps(load_u16_n(p, n))}; }
FOVEAL_SIMD void store_f16(uint16_t* p, F32 a) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), f32_to_f16_bits(a));
}
FOVEAL_SIMD void store_f16_n(uint16_t* p, F32 a, int n) { store_u16_n(p, f32_to_f16_bits(a), n); }

FOVEAL_SIMD Pairs load_pairs(const void* p) {
  return {_mm256_loadu_si256(static_cast<const __m256i*>(p))};
}
FOVEAL_SIMD Pairs load_pairs_n(const void* p, int n) {
  return {_mm256_maskload_epi32(static_cast<const int*>(p), tail_bits(n))};
}
FOVEAL_SIMD void store_pairs(void* p, Pairs a) {
  _mm256_storeu_si256(static_cast<__m256i*>(p), a.v);
}
FOVEAL_SIMD Pairs set1_pair(uint32_t pair) {
  return {_mm256_set1_epi32(static_cast<int32_t>(pair))};
}
/// The pair at `p` in every lane.
FOVEAL_SIMD Pairs broadcast_pair(const void* p) {
  return {_mm256_castps_si256(_mm256_broadcast_ss(static_cast<const float*>(p)))};
}
FOVEAL_SIMD F32 widen_even(Pairs a) { return {_mm256_castsi256_ps(_mm256_slli_epi32(a.v, 16))}; }
FOVEAL_SIMD F32 widen_odd(Pairs a) {
  return {_mm256_castsi256_ps(
      _mm256_and_si256(a.v, _mm256_set1_epi32(static_cast<int32_t>(0xffff0000U))))};
}
/// Lane i = (even[i], odd[i]).
FOVEAL_SIMD Pairs pack_pairs(F32 even, F32 odd) {
  return {_mm256_or_si256(f32_to_bf16_bits(even), _mm256_slli_epi32(f32_to_bf16_bits(odd), 16))};
}
/// acc + a.odd * b.odd + a.even * b.even, lane by lane.
FOVEAL_SIMD F32 dot(F32 acc, Pairs a, Pairs b) {
  return fma(widen_even(a), widen_even(b), fma(widen_odd(a), widen_odd(b), acc));
}

}  // namespace foveal::kernels::cpu::FOVEAL_ISA_NS

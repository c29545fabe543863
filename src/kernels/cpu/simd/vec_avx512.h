#pragma once

#include <cstdint>

#include "kernels/cpu/simd/intrinsics.h"

namespace foveal::kernels::cpu::FOVEAL_ISA_NS {

inline constexpr int kLanes = 16;

struct F32 {
  __m512 v;
};
struct Mask {
  __mmask16 m;
};
struct Pairs {
  __m512i v;
};

FOVEAL_SIMD F32 zero() { return {_mm512_setzero_ps()}; }
FOVEAL_SIMD F32 set1(float x) { return {_mm512_set1_ps(x)}; }
FOVEAL_SIMD F32 load(const float* p) { return {_mm512_loadu_ps(p)}; }
FOVEAL_SIMD void store(float* p, F32 a) { _mm512_storeu_ps(p, a.v); }
/// The first n lanes, 0 <= n <= kLanes; the rest 0 (load) or untouched (store).
FOVEAL_SIMD __mmask16 tail_bits(int n) { return static_cast<__mmask16>((1U << n) - 1U); }
FOVEAL_SIMD F32 load_n(const float* p, int n) { return {_mm512_maskz_loadu_ps(tail_bits(n), p)}; }
FOVEAL_SIMD void store_n(float* p, F32 a, int n) { _mm512_mask_storeu_ps(p, tail_bits(n), a.v); }
/// 0, 1, 2, ...
FOVEAL_SIMD F32 iota() {
  return {_mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)};
}

FOVEAL_SIMD F32 operator+(F32 a, F32 b) { return {_mm512_add_ps(a.v, b.v)}; }
FOVEAL_SIMD F32 operator-(F32 a, F32 b) { return {_mm512_sub_ps(a.v, b.v)}; }
FOVEAL_SIMD F32 operator*(F32 a, F32 b) { return {_mm512_mul_ps(a.v, b.v)}; }
FOVEAL_SIMD F32 operator/(F32 a, F32 b) { return {_mm512_div_ps(a.v, b.v)}; }
/// a * b + c
FOVEAL_SIMD F32 fma(F32 a, F32 b, F32 c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
/// c - a * b
FOVEAL_SIMD F32 fnma(F32 a, F32 b, F32 c) { return {_mm512_fnmadd_ps(a.v, b.v, c.v)}; }
FOVEAL_SIMD F32 max(F32 a, F32 b) { return {_mm512_max_ps(a.v, b.v)}; }
FOVEAL_SIMD F32 min(F32 a, F32 b) { return {_mm512_min_ps(a.v, b.v)}; }
FOVEAL_SIMD F32 abs(F32 a) { return {_mm512_abs_ps(a.v)}; }
FOVEAL_SIMD F32 sqrt(F32 a) { return {_mm512_sqrt_ps(a.v)}; }
/// To the nearest integer, ties to even.
FOVEAL_SIMD F32 round(F32 a) { return {_mm512_roundscale_ps(a.v, 0x08)}; }
/// The magnitude of `a` with the sign of `b`.
FOVEAL_SIMD F32 copysign(F32 a, F32 b) {
  const __m512i sign = _mm512_set1_epi32(INT32_MIN);
  // 0xca: bit = sign ? b : a
  return {_mm512_castsi512_ps(
      _mm512_ternarylogic_epi32(sign, _mm512_castps_si512(b.v), _mm512_castps_si512(a.v), 0xca))};
}
/// 2^x within 8e-5 relative, for softmax weights that are rounded to bf16 (4e-3); 0 for -inf.
FOVEAL_SIMD F32 exp2_coarse(F32 x) {
  // x = floor(x) + f, f in [0, 1): vreduceps answers f (0 for -inf), vscalefps takes the floor
  const F32 f{_mm512_reduce_ps(x.v, 0x09)};
  F32 p = set1(0.07802452117762651F);
  p = fma(p, f, set1(0.22606715750977185F));
  p = fma(p, f, set1(0.695833539779609F));
  p = fma(p, f, set1(0.9999252185963512F));
  return {_mm512_scalef_ps(p.v, x.v)};
}
/// a * 2^n for an integral n in [-151, 129].
FOVEAL_SIMD F32 scale_exp2(F32 a, F32 n) { return {_mm512_scalef_ps(a.v, n.v)}; }

FOVEAL_SIMD Mask lt(F32 a, F32 b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ)}; }
FOVEAL_SIMD Mask le(F32 a, F32 b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_LE_OQ)}; }
FOVEAL_SIMD Mask gt(F32 a, F32 b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_GT_OQ)}; }
FOVEAL_SIMD Mask eq(F32 a, F32 b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_EQ_OQ)}; }
FOVEAL_SIMD Mask mask_first(int n) { return {tail_bits(n)}; }
FOVEAL_SIMD Mask operator&(Mask a, Mask b) { return {static_cast<__mmask16>(a.m & b.m)}; }
FOVEAL_SIMD Mask operator|(Mask a, Mask b) { return {static_cast<__mmask16>(a.m | b.m)}; }
/// m ? a : b
FOVEAL_SIMD F32 select(Mask m, F32 a, F32 b) { return {_mm512_mask_blend_ps(m.m, b.v, a.v)}; }
FOVEAL_SIMD bool any(Mask m) { return m.m != 0; }
FOVEAL_SIMD bool all(Mask m) { return m.m == 0xffff; }

FOVEAL_SIMD float reduce_add(F32 a) {
  __m256 h = _mm256_add_ps(_mm512_castps512_ps256(a.v), _mm512_extractf32x8_ps(a.v, 1));
  __m128 q = _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
  q = _mm_add_ps(q, _mm_movehl_ps(q, q));
  return _mm_cvtss_f32(_mm_add_ss(q, _mm_movehdup_ps(q)));
}
FOVEAL_SIMD float reduce_max(F32 a) {
  __m256 h = _mm256_max_ps(_mm512_castps512_ps256(a.v), _mm512_extractf32x8_ps(a.v, 1));
  __m128 q = _mm_max_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
  q = _mm_max_ps(q, _mm_movehl_ps(q, q));
  return _mm_cvtss_f32(_mm_max_ss(q, _mm_movehdup_ps(q)));
}

FOVEAL_SIMD F32 bf16_bits_to_f32(__m256i bits) {
  return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16))};
}
/// In the low half of each 32-bit lane. Not vcvtneps2bf16, which flushes subnormals.
FOVEAL_SIMD __m512i f32_to_bf16_bits(F32 a) {
  const __m512i bits = _mm512_castps_si512(a.v);
  const __m512i high = _mm512_srli_epi32(bits, 16);
  const __m512i lsb = _mm512_and_si512(high, _mm512_set1_epi32(1));
  const __m512i rounded = _mm512_srli_epi32(
      _mm512_add_epi32(bits, _mm512_add_epi32(lsb, _mm512_set1_epi32(0x7fff))), 16);
  const __mmask16 nan = _mm512_cmp_ps_mask(a.v, a.v, _CMP_UNORD_Q);
  return _mm512_mask_or_epi32(rounded, nan, high, _mm512_set1_epi32(0x40));
}
FOVEAL_SIMD F32 load_bf16(const uint16_t* p) {
  return bf16_bits_to_f32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
FOVEAL_SIMD F32 load_bf16_n(const uint16_t* p, int n) {
  return bf16_bits_to_f32(_mm256_maskz_loadu_epi16(tail_bits(n), p));
}
FOVEAL_SIMD void store_bf16(uint16_t* p, F32 a) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16(f32_to_bf16_bits(a)));
}
FOVEAL_SIMD void store_bf16_n(uint16_t* p, F32 a, int n) {
  _mm512_mask_cvtepi32_storeu_epi16(p, tail_bits(n), f32_to_bf16_bits(a));
}

FOVEAL_SIMD __m256i f32_to_f16_bits(F32 a) {
  // The instruction keeps a NaN's payload; half.h makes all of them 0x7e00 with the sign.
  const __m256i bits = _mm512_cvtps_ph(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  const __mmask16 nan = _mm512_cmp_ps_mask(a.v, a.v, _CMP_UNORD_Q);
  const __m256i sign = _mm256_and_si256(bits, _mm256_set1_epi16(INT16_MIN));
  return _mm256_mask_blend_epi16(nan, bits, _mm256_or_si256(sign, _mm256_set1_epi16(0x7e00)));
}
FOVEAL_SIMD F32 load_f16(const uint16_t* p) {
  return {_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))};
}
FOVEAL_SIMD F32 load_f16_n(const uint16_t* p, int n) {
  return {_mm512_cvtph_ps(_mm256_maskz_loadu_epi16(tail_bits(n), p))};
}
FOVEAL_SIMD void store_f16(uint16_t* p, F32 a) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), f32_to_f16_bits(a));
}
FOVEAL_SIMD void store_f16_n(uint16_t* p, F32 a, int n) {
  _mm256_mask_storeu_epi16(p, tail_bits(n), f32_to_f16_bits(a));
}

FOVEAL_SIMD Pairs load_pairs(const void* p) { return {_mm512_loadu_si512(p)}; }
FOVEAL_SIMD Pairs load_pairs_n(const void* p, int n) {
  return {_mm512_maskz_loadu_epi32(tail_bits(n), p)};
}
FOVEAL_SIMD void store_pairs(void* p, Pairs a) { _mm512_storeu_si512(p, a.v); }
FOVEAL_SIMD Pairs set1_pair(uint32_t pair) {
  return {_mm512_set1_epi32(static_cast<int32_t>(pair))};
}
/// The pair at `p` in every lane.
FOVEAL_SIMD Pairs broadcast_pair(const void* p) {
  int32_t pair = 0;
  __builtin_memcpy(&pair, p, sizeof(pair));
  return {_mm512_set1_epi32(pair)};
}
FOVEAL_SIMD F32 widen_even(Pairs a) { return {_mm512_castsi512_ps(_mm512_slli_epi32(a.v, 16))}; }
FOVEAL_SIMD F32 widen_odd(Pairs a) {
  return {_mm512_castsi512_ps(
      _mm512_and_si512(a.v, _mm512_set1_epi32(static_cast<int32_t>(0xffff0000U))))};
}
/// Lane i = (even[i], odd[i]). Finite values; a subnormal may become zero.
FOVEAL_SIMD Pairs pack_pairs(F32 even, F32 odd) {
#if FOVEAL_ISA_LEVEL >= 3
  const __m512i halves = (__m512i)_mm512_cvtne2ps_pbh(odd.v, even.v);
  const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24,
                                         8, 23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
  return {_mm512_permutexvar_epi16(order, halves)};
#else
  return {_mm512_or_si512(f32_to_bf16_bits(even), _mm512_slli_epi32(f32_to_bf16_bits(odd), 16))};
#endif
}
#if FOVEAL_ISA_LEVEL >= 3
/// 2 * kLanes consecutive values: `first`, then `second`. Finite; a subnormal may become zero.
FOVEAL_SIMD Pairs pack_bf16(F32 first, F32 second) {
  return {(__m512i)_mm512_cvtne2ps_pbh(second.v, first.v)};
}
/// The two pairs at `p` in turn.
FOVEAL_SIMD Pairs broadcast_two(const void* p) {
  int64_t two = 0;
  __builtin_memcpy(&two, p, sizeof(two));
  return {_mm512_set1_epi64(two)};
}
/// Words a[i], b[i] in turn, of kLanes each.
FOVEAL_SIMD void interleave_words(Pairs a, Pairs b, Pairs& low, Pairs& high) {
  const __m512i order = _mm512_set_epi32(23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
  low = {_mm512_permutex2var_epi32(a.v, order, b.v)};
  high = {_mm512_permutex2var_epi32(a.v, _mm512_add_epi32(order, _mm512_set1_epi32(8)), b.v)};
}
/// y[0], y[1] = the sums of the even and of the odd lanes.
FOVEAL_SIMD void store_reduced_two(float* y, F32 a) {
  const __m256 h = _mm256_add_ps(_mm512_castps512_ps256(a.v), _mm512_extractf32x8_ps(a.v, 1));
  __m128 q = _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
  q = _mm_add_ps(q, _mm_movehl_ps(q, q));
  _mm_storel_pi(reinterpret_cast<__m64*>(y), q);
}
/// Pairs (a[i], b[i]) of 2 * kLanes consecutive values each: `low` has the first kLanes of them.
FOVEAL_SIMD void interleave(Pairs a, Pairs b, Pairs& low, Pairs& high) {
  const __m512i order = _mm512_set_epi16(47, 15, 46, 14, 45, 13, 44, 12, 43, 11, 42, 10, 41, 9, 40,
                                         8, 39, 7, 38, 6, 37, 5, 36, 4, 35, 3, 34, 2, 33, 1, 32, 0);
  low = {_mm512_permutex2var_epi16(a.v, order, b.v)};
  high = {_mm512_permutex2var_epi16(a.v, _mm512_add_epi16(order, _mm512_set1_epi16(16)), b.v)};
}
#endif
/// acc + a.odd * b.odd + a.even * b.even, lane by lane.
FOVEAL_SIMD F32 dot(F32 acc, Pairs a, Pairs b) {
#if FOVEAL_ISA_LEVEL >= 3
  return {_mm512_dpbf16_ps(acc.v, (__m512bh)a.v, (__m512bh)b.v)};
#else
  return fma(widen_even(a), widen_even(b), fma(widen_odd(a), widen_odd(b), acc));
#endif
}

}  // namespace foveal::kernels::cpu::FOVEAL_ISA_NS

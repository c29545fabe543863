#pragma once

#include <cstdint>

// Four lanes in the compiler's own vectors: SSE2 on x86-64, NEON on arm64, loops elsewhere.

namespace foveal::kernels::cpu::FOVEAL_ISA_NS {

inline constexpr int kLanes = 4;

using NativeF32 = float __attribute__((vector_size(16)));
using NativeI32 = int32_t __attribute__((vector_size(16)));
using NativeU32 = uint32_t __attribute__((vector_size(16)));

struct F32 {
  NativeF32 v;
};
struct Mask {
  NativeI32 m;
};
struct Pairs {
  NativeU32 v;
};

FOVEAL_SIMD F32 zero() { return {NativeF32{0, 0, 0, 0}}; }
FOVEAL_SIMD F32 set1(float x) { return {NativeF32{x, x, x, x}}; }
FOVEAL_SIMD F32 load(const float* p) {
  F32 out;
  __builtin_memcpy(&out, p, sizeof(out));
  return out;
}
FOVEAL_SIMD void store(float* p, F32 a) { __builtin_memcpy(p, &a, sizeof(a)); }
/// The first n lanes, 0 <= n <= kLanes; the rest 0 (load) or untouched (store).
FOVEAL_SIMD F32 load_n(const float* p, int n) {
  F32 out = zero();
  for (int lane = 0; lane < n; ++lane) out.v[lane] = p[lane];
  return out;
}
FOVEAL_SIMD void store_n(float* p, F32 a, int n) {
  for (int lane = 0; lane < n; ++lane) p[lane] = a.v[lane];
}
/// 0, 1, 2, ...
FOVEAL_SIMD F32 iota() { return {NativeF32{0, 1, 2, 3}}; }

FOVEAL_SIMD F32 operator+(F32 a, F32 b) { return {a.v + b.v}; }
FOVEAL_SIMD F32 operator-(F32 a, F32 b) { return {a.v - b.v}; }
FOVEAL_SIMD F32 operator*(F32 a, F32 b) { return {a.v * b.v}; }
FOVEAL_SIMD F32 operator/(F32 a, F32 b) { return {a.v / b.v}; }
/// a * b + c, the product rounded: a fused one would be a library call here.
FOVEAL_SIMD F32 fma(F32 a, F32 b, F32 c) { return {a.v * b.v + c.v}; }
/// c - a * b
FOVEAL_SIMD F32 fnma(F32 a, F32 b, F32 c) { return {c.v - a.v * b.v}; }
FOVEAL_SIMD F32 max(F32 a, F32 b) { return {a.v > b.v ? a.v : b.v}; }
FOVEAL_SIMD F32 min(F32 a, F32 b) { return {a.v < b.v ? a.v : b.v}; }
FOVEAL_SIMD F32 abs(F32 a) { return {(NativeF32)((NativeU32)a.v & 0x7fffffffU)}; }
FOVEAL_SIMD F32 sqrt(F32 a) {
  for (int lane = 0; lane < kLanes; ++lane) a.v[lane] = __builtin_sqrtf(a.v[lane]);
  return a;
}
/// The magnitude of `a` with the sign of `b`.
FOVEAL_SIMD F32 copysign(F32 a, F32 b) {
  return {(NativeF32)(((NativeU32)a.v & 0x7fffffffU) | ((NativeU32)b.v & 0x80000000U))};
}
/// To the nearest integer, ties to even: adding 2^23 leaves no fraction bits.
FOVEAL_SIMD F32 round(F32 a) {
  const F32 magnitude = abs(a);
  const F32 shifted = magnitude + set1(0x1p23F) - set1(0x1p23F);
  const F32 small = copysign(shifted, a);
  return {magnitude.v < set1(0x1p23F).v ? small.v : a.v};
}
FOVEAL_SIMD F32 exp2_of_int(NativeI32 n) { return {(NativeF32)((n + 127) << 23)}; }
/// a * 2^n for an integral n in [-151, 129]. In two steps, as 2^n alone may not be a float.
FOVEAL_SIMD F32 scale_exp2(F32 a, F32 n) {
  const NativeI32 whole = __builtin_convertvector(n.v, NativeI32);
  const NativeI32 half = whole >> 1;
  return a * exp2_of_int(half) * exp2_of_int(whole - half);
}

FOVEAL_SIMD Mask lt(F32 a, F32 b) { return {a.v < b.v}; }
FOVEAL_SIMD Mask le(F32 a, F32 b) { return {a.v <= b.v}; }
FOVEAL_SIMD Mask gt(F32 a, F32 b) { return {a.v > b.v}; }
FOVEAL_SIMD Mask eq(F32 a, F32 b) { return {a.v == b.v}; }
FOVEAL_SIMD Mask mask_first(int n) { return {NativeI32{0, 1, 2, 3} < n}; }
FOVEAL_SIMD Mask operator&(Mask a, Mask b) { return {a.m & b.m}; }
FOVEAL_SIMD Mask operator|(Mask a, Mask b) { return {a.m | b.m}; }
/// m ? a : b
FOVEAL_SIMD F32 select(Mask m, F32 a, F32 b) { return {m.m != 0 ? a.v : b.v}; }
FOVEAL_SIMD bool any(Mask m) { return (m.m[0] | m.m[1] | m.m[2] | m.m[3]) != 0; }
FOVEAL_SIMD bool all(Mask m) { return (m.m[0] & m.m[1] & m.m[2] & m.m[3]) != 0; }

FOVEAL_SIMD float reduce_add(F32 a) { return (a.v[0] + a.v[2]) + (a.v[1] + a.v[3]); }
FOVEAL_SIMD float reduce_max(F32 a) {
  const float even = a.v[0] > a.v[2] ? a.v[0] : a.v[2];
  const float odd = a.v[1] > a.v[3] ? a.v[1] : a.v[3];
  return even > odd ? even : odd;
}

FOVEAL_SIMD NativeU32 load_u16_n(const uint16_t* p, int n) {
  NativeU32 bits{0, 0, 0, 0};
  for (int lane = 0; lane < n; ++lane) bits[lane] = p[lane];
  return bits;
}
FOVEAL_SIMD void store_u16_n(uint16_t* p, NativeU32 bits, int n) {
  for (int lane = 0; lane < n; ++lane) p[lane] = static_cast<uint16_t>(bits[lane]);
}
/// In the low half of each 32-bit lane.
FOVEAL_SIMD NativeU32 f32_to_bf16_bits(F32 a) {
  const NativeU32 bits = (NativeU32)a.v;
  const NativeU32 rounded = (bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16;
  return (bits & 0x7fffffffU) > 0x7f800000U ? (bits >> 16) | 0x40U : rounded;
}
FOVEAL_SIMD F32 load_bf16_n(const uint16_t* p, int n) {
  return {(NativeF32)(load_u16_n(p, n) << 16)};
}
FOVEAL_SIMD F32 load_bf16(const uint16_t* p) { return load_bf16_n(p, kLanes); }
FOVEAL_SIMD void store_bf16_n(uint16_t* p, F32 a, int n) { store_u16_n(p, f32_to_bf16_bits(a), n); }
FOVEAL_SIMD void store_bf16(uint16_t* p, F32 a) { store_bf16_n(p, a, kLanes); }

/// See base/half.h for the arithmetic.
FOVEAL_SIMD NativeU32 f32_to_f16_bits(F32 a) {
  const NativeU32 bits = (NativeU32)a.v;
  const NativeU32 sign = (bits >> 16) & 0x8000U;
  const NativeU32 magnitude = bits & 0x7fffffffU;
  const NativeU32 normal = (magnitude + 0xfffU + ((magnitude >> 13) & 1U) - 0x38000000U) >> 13;
  const NativeF32 aligned = (NativeF32)magnitude + 0.5F;
  NativeU32 out = magnitude < 0x38800000U ? (NativeU32)aligned - 0x3f000000U : normal;
  out = magnitude >= 0x477ff000U ? NativeU32{0x7c00, 0x7c00, 0x7c00, 0x7c00} : out;
  out = magnitude > 0x7f800000U ? NativeU32{0x7e00, 0x7e00, 0x7e00, 0x7e00} : out;
  return out | sign;
}
FOVEAL_SIMD F32 load_f16_n(const uint16_t* p, int n) {
  const NativeU32 half = load_u16_n(p, n);
  const NativeU32 sign = (half & 0x8000U) << 16;
  const NativeU32 rest = half & 0x7fffU;
  const NativeF32 tiny = __builtin_convertvector((NativeI32)rest, NativeF32) * 0x1p-24F;
  NativeU32 out = rest < 0x0400U ? (NativeU32)tiny : (rest << 13) + 0x38000000U;
  out = rest >= 0x7c00U ? ((rest & 0x3ffU) << 13) | 0x7f800000U : out;
  return {(NativeF32)(out | sign)};
}
FOVEAL_SIMD F32 load_f16(const uint16_t* p) { return load_f16_n(p, kLanes); }
FOVEAL_SIMD void store_f16_n(uint16_t* p, F32 a, int n) { store_u16_n(p, f32_to_f16_bits(a), n); }
FOVEAL_SIMD void store_f16(uint16_t* p, F32 a) { store_f16_n(p, a, kLanes); }

FOVEAL_SIMD Pairs load_pairs(const void* p) {
  Pairs out;
  __builtin_memcpy(&out, p, sizeof(out));
  return out;
}
FOVEAL_SIMD Pairs load_pairs_n(const void* p, int n) {
  Pairs out{NativeU32{0, 0, 0, 0}};
  __builtin_memcpy(&out, p, static_cast<unsigned>(n) * sizeof(uint32_t));
  return out;
}
FOVEAL_SIMD void store_pairs(void* p, Pairs a) { __builtin_memcpy(p, &a, sizeof(a)); }
FOVEAL_SIMD Pairs set1_pair(uint32_t pair) { return {NativeU32{pair, pair, pair, pair}}; }
/// The pair at `p` in every lane.
FOVEAL_SIMD Pairs broadcast_pair(const void* p) {
  uint32_t pair = 0;
  __builtin_memcpy(&pair, p, sizeof(pair));
  return set1_pair(pair);
}
FOVEAL_SIMD F32 widen_even(Pairs a) { return {(NativeF32)(a.v << 16)}; }
FOVEAL_SIMD F32 widen_odd(Pairs a) { return {(NativeF32)(a.v & 0xffff0000U)}; }
/// Lane i = (even[i], odd[i]).
FOVEAL_SIMD Pairs pack_pairs(F32 even, F32 odd) {
  return {f32_to_bf16_bits(even) | (f32_to_bf16_bits(odd) << 16)};
}
/// acc + a.odd * b.odd + a.even * b.even, lane by lane.
FOVEAL_SIMD F32 dot(F32 acc, Pairs a, Pairs b) {
  return fma(widen_even(a), widen_even(b), fma(widen_odd(a), widen_odd(b), acc));
}

}  // namespace foveal::kernels::cpu::FOVEAL_ISA_NS

#pragma once

// Elementary functions of vec.h's vectors. Coefficients are minimax fits of our own (Lawson's
// iteration on Chebyshev nodes); the quoted error is the polynomial's, rounding comes on top.

namespace foveal::kernels::cpu::FOVEAL_ISA_NS {

/// 2^f for |f| <= 0.5, relative error 2e-9 before rounding.
FOVEAL_SIMD F32 exp2_fraction(F32 f) {
  F32 p = set1(0.00015353361913477553F);
  p = fma(p, f, set1(0.001339887441418032F));
  p = fma(p, f, set1(0.009618437357656436F));
  p = fma(p, f, set1(0.05550332471125709F));
  p = fma(p, f, set1(0.24022647913628906F));
  p = fma(p, f, set1(0.6931472028550663F));
  return fma(p, f, set1(1.0F));
}

/// 2^x within 2e-7 relative; 0 below 2^-150 and for -inf, +inf above the range, NaN for NaN.
FOVEAL_SIMD F32 exp2(F32 x) {
  const F32 clamped = min(set1(129.0F), max(set1(-151.0F), x));  // both keep a NaN
  const F32 n = round(clamped);
  return scale_exp2(exp2_fraction(clamped - n), n);
}

/// e^x within 2e-7 relative, with the same edges.
FOVEAL_SIMD F32 exp(F32 x) {
  const F32 clamped = min(set1(89.0F), max(set1(-104.5F), x));
  const F32 n = round(clamped * set1(1.44269504F));
  // ln 2 in two parts, the first of 9 bits, so that n times it is exact even when unfused
  const F32 r = fnma(n, set1(-2.12194440e-4F), fnma(n, set1(0.693359375F), clamped));
  return scale_exp2(exp2_fraction(r * set1(1.44269504F)), n);
}

/// 1 / (1 + e^-x)
FOVEAL_SIMD F32 sigmoid(F32 x) { return set1(1.0F) / (set1(1.0F) + exp(zero() - x)); }

/// Within 3e-7 relative.
FOVEAL_SIMD F32 tanh(F32 x) {
  const F32 a = abs(x);
  const F32 z = a * a;
  F32 p = set1(-0.005704987199181172F);  // tanh(a) = a + a^3 p(a^2), a < 0.625: 4.4e-9
  p = fma(p, z, set1(0.020639087427607578F));
  p = fma(p, z, set1(-0.05373971514169957F));
  p = fma(p, z, set1(0.13331442198853666F));
  p = fma(p, z, set1(-0.33333281942038545F));
  const F32 small = fma(a * z, p, a);
  const F32 large = set1(1.0F) - set1(2.0F) / (exp(a + a) + set1(1.0F));
  return copysign(select(lt(a, set1(0.625F)), small, large), x);
}

/// Within 4e-7 relative.
FOVEAL_SIMD F32 erf(F32 x) {
  const F32 a = abs(x);
  const F32 z = a * a;
  F32 p = set1(7.853875598916316e-05F);  // erf(a) = a p(a^2), a < 1: 1.2e-9
  p = fma(p, z, set1(-0.0008010198298137594F));
  p = fma(p, z, set1(0.005188328276353918F));
  p = fma(p, z, set1(-0.026853812294476698F));
  p = fma(p, z, set1(0.11283585159267573F));
  p = fma(p, z, set1(-0.3761262582559365F));
  p = fma(p, z, set1(1.128379165727211F));
  const F32 t = set1(1.0F) / fma(a, set1(0.4F), set1(1.0F));
  F32 q = set1(-0.1081298824132699F);  // erfc(a) = e^(-a^2) t q(t): 5.3e-9 of erfc
  q = fma(q, t, set1(0.21635136187895984F));
  q = fma(q, t, set1(0.04580760530060887F));
  q = fma(q, t, set1(0.18585036671664762F));
  q = fma(q, t, set1(0.20971008638054972F));
  q = fma(q, t, set1(0.22438431450609425F));
  q = fma(q, t, set1(0.22582732554756293F));
  const F32 large = set1(1.0F) - exp(zero() - z) * (q * t);
  return copysign(select(lt(a, set1(1.0F)), a * p, large), x);
}

}  // namespace foveal::kernels::cpu::FOVEAL_ISA_NS

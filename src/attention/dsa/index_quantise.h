#pragma once

#include <cstdint>

#include "attention/dsa/index_item.h"
#include "base/half.h"

namespace foveal::kernels::cpu::FOVEAL_ISA_NS {

/// x H / sqrt(n) with the Sylvester matrix H, in place; n a power of two. Additions in a fixed
/// order: every level gives the same bits.
static inline void hadamard(float* x, int n) {
  for (int half = 1; half < n; half *= 2) {
    for (int at = 0; at < n; at += 2 * half) {
      for (int idx = at; idx < at + half; ++idx) {
        const float sum = x[idx] + x[idx + half];
        const float difference = x[idx] - x[idx + half];
        x[idx] = sum;
        x[idx + half] = difference;
      }
    }
  }
  const float unit = 1.0F / __builtin_sqrtf(static_cast<float>(n));
  for (int idx = 0; idx < n; ++idx) x[idx] *= unit;
}

/// The smallest power of two that is at least `x`, of a positive normal number.
static inline float power_above(float x) {
  uint32_t bits = 0;
  __builtin_memcpy(&bits, &x, sizeof(bits));
  bits = (bits + 0x7fffffU) & 0x7f800000U;
  __builtin_memcpy(&x, &bits, sizeof(bits));
  return x;
}

static inline bool all_finite(const float* x, int n) {
  bool finite = true;
  for (int idx = 0; idx < n; ++idx) {
    finite = finite && __builtin_fabsf(x[idx]) <= 3.4028234e38F;
  }
  return finite;
}

/// The Hadamard transform of x[0, n) as e4m3 codes; answers their scale, a power of two. Of numbers
/// that are not all finite the scale is NaN and the codes are 0, so that their scores are NaN.
static inline float quantise(const float* x, int n, uint8_t* codes) {
  float rotated[kMaxIndexDim] = {};
  for (int idx = 0; idx < n; ++idx) rotated[idx] = x[idx];
  hadamard(rotated, n);
  if (!all_finite(rotated, n)) {
    __builtin_memset(codes, 0, static_cast<size_t>(n));
    return __builtin_nanf("");
  }
  float largest = 1e-4F;
  for (int idx = 0; idx < n; ++idx) {
    const float magnitude = __builtin_fabsf(rotated[idx]);
    largest = magnitude > largest ? magnitude : largest;
  }
  const float scale = power_above(largest / 448.0F);
  const float inverse = 1.0F / scale;
  for (int idx = 0; idx < n; ++idx) codes[idx] = float_to_e4m3(rotated[idx] * inverse);
  return scale;
}

}  // namespace foveal::kernels::cpu::FOVEAL_ISA_NS

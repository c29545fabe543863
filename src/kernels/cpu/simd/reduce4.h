#pragma once

#include "kernels/cpu/simd/vec.h"

#if FOVEAL_ISA_LEVEL >= 2

namespace foveal::kernels::cpu::FOVEAL_ISA_NS {

/// The sums of four vectors' lanes: within each quarter (0 + 2) + (1 + 3), then the quarters as
/// (0 + 2) + (1 + 3). The same order for each of the four.
FOVEAL_SIMD __m128 reduce4(F32 a, F32 b, F32 c, F32 d) {
  const __m512 ab = _mm512_add_ps(_mm512_unpacklo_ps(a.v, b.v), _mm512_unpackhi_ps(a.v, b.v));
  const __m512 cd = _mm512_add_ps(_mm512_unpacklo_ps(c.v, d.v), _mm512_unpackhi_ps(c.v, d.v));
  const __m512 abcd =
      _mm512_add_ps(_mm512_shuffle_ps(ab, cd, 0x44), _mm512_shuffle_ps(ab, cd, 0xee));
  const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(abcd), _mm512_extractf32x8_ps(abcd, 1));
  return _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
}

/// y[0, left) = the sums of up to four vectors, plus the bias if there is one, plus y if asked.
FOVEAL_SIMD void store_sums4(float* y, int64_t left, const float* bias, bool accumulate,
                             const F32 (&v)[4]) {
  const auto mask = static_cast<__mmask8>(left >= 4 ? 15 : (1 << left) - 1);
  __m128 sum = reduce4(v[0], v[1], v[2], v[3]);
  if (bias != nullptr) sum = _mm_add_ps(sum, _mm_maskz_loadu_ps(mask, bias));
  if (accumulate) sum = _mm_add_ps(_mm_maskz_loadu_ps(mask, y), sum);
  _mm_mask_storeu_ps(y, mask, sum);
}

}  // namespace foveal::kernels::cpu::FOVEAL_ISA_NS

#endif

namespace foveal::kernels::cpu::FOVEAL_ISA_NS {

/// y[0, 4) = the sums of four vectors' lanes, in the same order for each.
FOVEAL_SIMD void store_reduced4(float* y, const F32 (&v)[4]) {
#if FOVEAL_ISA_LEVEL >= 2
  _mm_storeu_ps(y, reduce4(v[0], v[1], v[2], v[3]));
#else
  for (int idx = 0; idx < 4; ++idx) y[idx] = reduce_add(v[idx]);
#endif
}

}  // namespace foveal::kernels::cpu::FOVEAL_ISA_NS

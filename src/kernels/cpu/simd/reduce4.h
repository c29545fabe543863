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

}  // namespace foveal::kernels::cpu::FOVEAL_ISA_NS

#endif

#pragma once

#include "kernels/cpu/simd/vec.h"

namespace foveal::kernels::cpu::FOVEAL_ISA_NS {

/// Bit i: lane i of the mask.
FOVEAL_SIMD uint32_t lane_bits(Mask m) {
#if FOVEAL_ISA_LEVEL >= 2
  return m.m;
#elif FOVEAL_ISA_LEVEL == 1
  return static_cast<uint32_t>(_mm256_movemask_ps(m.m));
#else
  uint32_t bits = 0;
  for (int lane = 0; lane < kLanes; ++lane) bits |= m.m[lane] != 0 ? 1U << lane : 0U;
  return bits;
#endif
}

/// Stores the masked lanes of p one after the other at `out`, which needs room for all lanes;
/// answers how many there are. No branches, as no lane can be foreseen.
FOVEAL_SIMD int compress(const float* p, Mask m, float* out) {
#if FOVEAL_ISA_LEVEL >= 2
  _mm512_storeu_ps(out, _mm512_maskz_compress_ps(m.m, _mm512_loadu_ps(p)));
#else
  const uint32_t bits = lane_bits(m);
  int count = 0;
  for (int lane = 0; lane < kLanes; ++lane) {
    out[count] = p[lane];
    count += static_cast<int>(bits >> lane & 1U);
  }
#endif
  return __builtin_popcount(lane_bits(m));
}

/// The same of the lanes' places: first + lane.
FOVEAL_SIMD int compress_places(int32_t first, Mask m, int32_t* out) {
#if FOVEAL_ISA_LEVEL >= 2
  const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  const __m512i places = _mm512_add_epi32(_mm512_set1_epi32(first), lanes);
  _mm512_storeu_si512(out, _mm512_maskz_compress_epi32(m.m, places));
#else
  const uint32_t bits = lane_bits(m);
  int count = 0;
  for (int lane = 0; lane < kLanes; ++lane) {
    out[count] = first + lane;
    count += static_cast<int>(bits >> lane & 1U);
  }
#endif
  return __builtin_popcount(lane_bits(m));
}

}  // namespace foveal::kernels::cpu::FOVEAL_ISA_NS

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

/// The mask whose lane i is bit i.
FOVEAL_SIMD Mask mask_of(uint32_t bits) {
#if FOVEAL_ISA_LEVEL >= 2
  return {static_cast<__mmask16>(bits)};
#elif FOVEAL_ISA_LEVEL == 1
  const __m256i own = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
  const __m256i all = _mm256_set1_epi32(static_cast<int32_t>(bits));
  return {_mm256_castsi256_ps(_mm256_cmpeq_epi32(_mm256_and_si256(all, own), own))};
#else
  Mask out;
  for (int lane = 0; lane < kLanes; ++lane) out.m[lane] = (bits >> lane & 1U) != 0 ? -1 : 0;
  return out;
#endif
}

#if FOVEAL_ISA_LEVEL == 1
/// For each set of lanes their numbers in ascending order, a byte each.
struct CompressTable {
  uint64_t order[1 << kLanes] = {};

  constexpr CompressTable() {
    for (uint32_t bits = 0; bits < 1U << kLanes; ++bits) {
      uint32_t count = 0;
      for (uint32_t lane = 0; lane < kLanes; ++lane) {
        if ((bits >> lane & 1U) != 0) order[bits] |= uint64_t{lane} << 8 * count++;
      }
    }
  }
};
inline constexpr CompressTable kCompressTable;

FOVEAL_SIMD __m256i compress_order(uint32_t bits) {
  return _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(static_cast<int64_t>(kCompressTable.order[bits])));
}
#endif

/// Stores the masked lanes of p one after the other at `out`, which needs room for all lanes;
/// answers how many there are. No branches, as no lane can be foreseen.
FOVEAL_SIMD int compress(const float* p, Mask m, float* out) {
  const uint32_t bits = lane_bits(m);
#if FOVEAL_ISA_LEVEL >= 2
  _mm512_storeu_ps(out, _mm512_maskz_compress_ps(m.m, _mm512_loadu_ps(p)));
#elif FOVEAL_ISA_LEVEL == 1
  _mm256_storeu_ps(out, _mm256_permutevar8x32_ps(_mm256_loadu_ps(p), compress_order(bits)));
#else
  int count = 0;
  for (int lane = 0; lane < kLanes; ++lane) {
    out[count] = p[lane];
    count += static_cast<int>(bits >> lane & 1U);
  }
#endif
  return __builtin_popcount(bits);
}

/// The same of the lanes' places: first + lane.
FOVEAL_SIMD int compress_places(int32_t first, Mask m, int32_t* out) {
  const uint32_t bits = lane_bits(m);
#if FOVEAL_ISA_LEVEL >= 2
  const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  const __m512i places = _mm512_add_epi32(_mm512_set1_epi32(first), lanes);
  _mm512_storeu_si512(out, _mm512_maskz_compress_epi32(m.m, places));
#elif FOVEAL_ISA_LEVEL == 1
  const __m256i places = _mm256_add_epi32(_mm256_set1_epi32(first), compress_order(bits));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), places);
#else
  int count = 0;
  for (int lane = 0; lane < kLanes; ++lane) {
    out[count] = first + lane;
    count += static_cast<int>(bits >> lane & 1U);
  }
#endif
  return __builtin_popcount(bits);
}

}  // namespace foveal::kernels::cpu::FOVEAL_ISA_NS

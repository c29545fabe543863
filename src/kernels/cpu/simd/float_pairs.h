#pragma once

#include "base/dtype.h"
#include "kernels/cpu/simd/vec.h"

#if FOVEAL_ISA_LEVEL >= 3

namespace foveal::kernels::cpu::FOVEAL_ISA_NS {

/// 32 elements of a float row from element k, zeros past the end.
template <DType kType>
FOVEAL_SIMD Pairs float_pairs(const uint8_t* row, int64_t k, int64_t left) {
  const uint32_t mask = left >= 32 ? 0xffffffffU : (1U << left) - 1U;
  const auto low = static_cast<__mmask16>(mask);
  const auto high = static_cast<__mmask16>(mask >> 16);
  if (kType == DType::kBF16) return {_mm512_maskz_loadu_epi16(mask, row + 2 * k)};
  if (kType == DType::kF16) {
    const __m512i halves = _mm512_maskz_loadu_epi16(mask, row + 2 * k);
    return {(__m512i)_mm512_cvtne2ps_pbh(_mm512_cvtph_ps(_mm512_extracti64x4_epi64(halves, 1)),
                                         _mm512_cvtph_ps(_mm512_castsi512_si256(halves)))};
  }
  return {(__m512i)_mm512_cvtne2ps_pbh(_mm512_maskz_loadu_ps(high, row + 4 * k + 64),
                                       _mm512_maskz_loadu_ps(low, row + 4 * k))};
}

}  // namespace foveal::kernels::cpu::FOVEAL_ISA_NS

#endif

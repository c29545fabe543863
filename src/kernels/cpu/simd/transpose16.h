#pragma once

#include "kernels/cpu/simd/vec.h"

#if FOVEAL_ISA_LEVEL >= 2

namespace foveal::kernels::cpu::FOVEAL_ISA_NS {

/// dst[col * stride + row] = src[row * 16 + col] for 16 x 16 words; only the first `width` rows of
/// src are wanted, and only as many words of each dst row are written.
FOVEAL_SIMD void transpose16(const uint32_t* src, uint32_t* dst, int64_t stride, int width) {
  const auto mask = static_cast<__mmask16>((1U << width) - 1U);
  __m512i quad[16];  // 4 x 4 blocks transposed: quad[4 i + j] has column j of rows 4 i to 4 i + 3
#pragma GCC unroll 4
  for (int idx = 0; idx < 4; ++idx) {
    const uint32_t* rows = src + idx * 64;
    const __m512i r0 = _mm512_loadu_si512(rows);
    const __m512i r1 = _mm512_loadu_si512(rows + 16);
    const __m512i r2 = _mm512_loadu_si512(rows + 32);
    const __m512i r3 = _mm512_loadu_si512(rows + 48);
    const __m512i a = _mm512_unpacklo_epi32(r0, r1);
    const __m512i b = _mm512_unpackhi_epi32(r0, r1);
    const __m512i c = _mm512_unpacklo_epi32(r2, r3);
    const __m512i d = _mm512_unpackhi_epi32(r2, r3);
    quad[4 * idx] = _mm512_unpacklo_epi64(a, c);
    quad[4 * idx + 1] = _mm512_unpackhi_epi64(a, c);
    quad[4 * idx + 2] = _mm512_unpacklo_epi64(b, d);
    quad[4 * idx + 3] = _mm512_unpackhi_epi64(b, d);
  }
#pragma GCC unroll 4
  for (int col = 0; col < 4; ++col) {  // the 128-bit quarters: quarter q is column 4 q + col
    const __m512i a = _mm512_shuffle_i32x4(quad[col], quad[4 + col], 0x88);
    const __m512i b = _mm512_shuffle_i32x4(quad[col], quad[4 + col], 0xdd);
    const __m512i c = _mm512_shuffle_i32x4(quad[8 + col], quad[12 + col], 0x88);
    const __m512i d = _mm512_shuffle_i32x4(quad[8 + col], quad[12 + col], 0xdd);
    uint32_t* out = dst + col * stride;
    _mm512_mask_storeu_epi32(out, mask, _mm512_shuffle_i32x4(a, c, 0x88));
    _mm512_mask_storeu_epi32(out + 4 * stride, mask, _mm512_shuffle_i32x4(b, d, 0x88));
    _mm512_mask_storeu_epi32(out + 8 * stride, mask, _mm512_shuffle_i32x4(a, c, 0xdd));
    _mm512_mask_storeu_epi32(out + 12 * stride, mask, _mm512_shuffle_i32x4(b, d, 0xdd));
  }
}

}  // namespace foveal::kernels::cpu::FOVEAL_ISA_NS

#endif

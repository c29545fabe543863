#pragma once

#include <cuda_bf16.h>

#include <cstdint>

namespace foveal::cuda {

/// Two e4m3 values in the upper bytes of a word's halves, the rest of which is ignored, as bf16.
__device__ inline uint32_t e4m3x2_to_bf16x2(uint32_t bytes) {
  // s eeee mmm to s 0000 eeee mmm 0000: 2^-120 of the value, in subnormals too.
  const uint32_t small = (bytes & 0x80008000U) | ((bytes >> 4) & 0x07f007f0U);
  const uint32_t factor = 0x7b807b80U;  // 2^120 twice
  const __nv_bfloat162 out = __hmul2(*reinterpret_cast<const __nv_bfloat162*>(&small),
                                     *reinterpret_cast<const __nv_bfloat162*>(&factor));
  return *reinterpret_cast<const uint32_t*>(&out);
}

/// Four e4m3 values as two pairs of bf16, in the same order: exact, but that NaN becomes 480.
__device__ inline void e4m3x4_to_bf16x2(uint32_t& low, uint32_t& high, uint32_t four) {
  low = e4m3x2_to_bf16x2(__byte_perm(four, 0, 0x1404));
  high = e4m3x2_to_bf16x2(__byte_perm(four, 0, 0x3424));
}

}  // namespace foveal::cuda

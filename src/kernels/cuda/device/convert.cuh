#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

#include "kernels/cuda/device/wgmma.cuh"

namespace foveal::cuda {

/// 2^x to 2 ulp; 0 for -inf.
__device__ inline float exp2_approx(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

/// A copy that the compiler leaves where it is.
__device__ inline uint32_t register_move(uint32_t x) {
  uint32_t out;
  asm volatile("mov.b32 %0, %1;" : "=r"(out) : "r"(x));
  return out;
}

/// Two values rounded to nearest, `low` in the lower half.
template <class Element>
__device__ inline uint32_t pack(float low, float high);
template <>
__device__ inline uint32_t pack<Bf16>(float low, float high) {
  uint32_t out;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(out) : "f"(high), "f"(low));
  return out;
}
template <>
__device__ inline uint32_t pack<F16>(float low, float high) {
  uint32_t out;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(out) : "f"(high), "f"(low));
  return out;
}

/// Four values rounded to nearest e4m3 and held within 448, `a` in the lowest byte.
__device__ inline uint32_t pack_e4m3(float a, float b, float c, float d) {
  uint32_t out;
  asm("{\n.reg .b16 low, high;\n"
      "cvt.rn.satfinite.e4m3x2.f32 low, %2, %1;\n"
      "cvt.rn.satfinite.e4m3x2.f32 high, %4, %3;\n"
      "mov.b32 %0, {low, high};\n}"
      : "=r"(out)
      : "f"(a), "f"(b), "f"(c), "f"(d));
  return out;
}

/// Four 8x8 matrices of 16-bit values from shared memory: lane i gives row i % 8 of matrix i / 8.
__device__ inline void load_matrix_x4(uint32_t (&out)[4], uint32_t address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
               : "r"(address)
               : "memory");
}
__device__ inline void store_matrix_x4(uint32_t address, uint32_t a, uint32_t b, uint32_t c,
                                       uint32_t d) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(address),
               "r"(a), "r"(b), "r"(c), "r"(d)
               : "memory");
}

}  // namespace foveal::cuda

#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

// Warp matrix products (PTX ISA, "mma.sync"): d[16, 8] += A[16, 16] B[16, 8]. With g = lane / 4 and
// t = lane % 4 a thread holds
//   a[0], a[1]  rows g, g + 8 at k = 2t, 2t + 1        a[2], a[3]  the same rows at k + 8
//   b[0], b[1]  column g at k = 2t, 2t + 1; k + 8
//   d[0], d[1]  row g, columns 2t, 2t + 1              d[2], d[3]  row g + 8

namespace foveal::cuda {

template <class Element>
__device__ inline void mma_16x8x16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]);

template <>
__device__ inline void mma_16x8x16<__nv_bfloat16>(float (&d)[4], const uint32_t (&a)[4],
                                                  const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
template <>
__device__ inline void mma_16x8x16<__half>(float (&d)[4], const uint32_t (&a)[4],
                                           const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/// An 8x8 matrix of 16-bit values, held as one row a quad (columns 2t, 2t + 1), transposed.
__device__ inline uint32_t transpose_8x8(uint32_t row_pair) {
  uint32_t out;
  asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(out) : "r"(row_pair));
  return out;
}

/// Four e4m3 values as two pairs of f16 (exact), in the same order. The instruction takes either
/// half of a register: no shift.
__device__ inline void e4m3x4_to_f16x2(uint32_t& low, uint32_t& high, uint32_t four) {
  asm("{\n"
      ".reg .b16 l, h;\n"
      "mov.b32 {l, h}, %2;\n"
      "cvt.rn.f16x2.e4m3x2 %0, l;\n"
      "cvt.rn.f16x2.e4m3x2 %1, h;\n"
      "}"
      : "=r"(low), "=r"(high)
      : "r"(four));
}

}  // namespace foveal::cuda

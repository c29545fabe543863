#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

#include "kernels/cuda/device/wgmma_lists.cuh"

// Warpgroup matrix products (PTX ISA, "wgmma"): D[64, N] (+)= A[64, K] B[K, N], issued by four
// warps together; K is 32 bytes of values. D is float32, of int8 values int32 (exact). Thread t of
// the group holds, of row 16 * warp + t % 32 / 4 (+ 8), columns 8 * block + 2 * (t % 4) (+ 1) in
// d[4 * block + {0, 1}] (rows + 8: {2, 3}). A comes from shared memory (ss) or registers (rs), B
// from shared memory, in swizzled tiles:
//   K-major  rows of 128 bytes of the reduced dimension; 8 rows are 1024 bytes. Or rows of 32
//   N-major  (ss_n, rs_n; 16-bit values only) rows of 64 values of N, one a step of the reduced
//            dimension; `block_bytes` from one block of 64 to the next
// Register i of an A of 8-bit values holds, in its thread, bytes 4 * (t % 4) .. + 3 of row
// 16 * warp + t % 32 / 4 (i odd: + 8); for i >= 2 those 16 further on. Of e4m3 values every product
// and the sum so far are cut 13 bits below the largest of them.

namespace foveal::cuda {

struct Bf16 {
  using Type = __nv_bfloat16;
};
struct F16 {
  using Type = __half;
};
struct E4m3 {};
struct S8 {};

__device__ inline uint64_t swizzled_descriptor(uint32_t address, uint32_t block_bytes) {
  constexpr uint64_t kSwizzle128 = uint64_t{1} << 62;
  constexpr uint64_t kEightRows = uint64_t{1024 >> 4} << 32;
  return kSwizzle128 | kEightRows | (uint64_t{block_bytes >> 4} << 16) | ((address & 0x3FFFF) >> 4);
}
/// K-major tiles of 64 values have no second block within a product.
__device__ inline uint64_t k_major_descriptor(uint32_t address) {
  return swizzled_descriptor(address, 16);
}
/// Of rows of 32 bytes: eight of them are 256 bytes, in which the two halves of rows 4 to 7 are
/// swapped (32-byte swizzle). `eight_rows` bytes from one group of eight rows to the next.
__device__ inline uint64_t narrow_descriptor(uint32_t address, uint32_t eight_rows) {
  constexpr uint64_t kSwizzle32 = uint64_t{3} << 62;
  return kSwizzle32 | (uint64_t{eight_rows >> 4} << 32) | (uint64_t{1} << 16) |
         ((address & 0x3FFFF) >> 4);
}
/// `bytes` further on in the same tile.
__device__ inline uint64_t advance(uint64_t descriptor, uint32_t bytes) {
  return descriptor + (bytes >> 4);
}

__device__ inline void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ inline void wgmma_commit() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
/// Until at most `kPending` of the committed groups are unfinished.
template <int kPending>
__device__ inline void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}
/// Keeps the compiler from moving what it does with the registers across this point.
template <int kCount>
__device__ inline void registers_fence(float (&d)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) asm volatile("" : "+f"(d[i])::"memory");
}
template <int kCount>
__device__ inline void registers_fence(int32_t (&d)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) asm volatile("" : "+r"(d[i])::"memory");
}

/// Products of one element type and N. `accumulate` 0 starts from zero.
template <class Element, int N>
struct Wgmma;

// The asm text of a product: `p` is whether it accumulates, KIND the shape's K and the types, FLAGS
// what comes after p, A and B as they stand in the text, ACCUMULATE the number of that operand.
#define FOVEAL_WGMMA_TEXT(N, KIND, FLAGS, A, B, ACCUMULATE)                                        \
  "{\n.reg .pred p;\nsetp.ne.b32 p, " ACCUMULATE ", 0;\nwgmma.mma_async.sync.aligned.m64n" #N KIND \
  " {" FOVEAL_WGMMA_NUMBERS_##N "}, " A ", " B ", p" FLAGS ";\n}"
#define FOVEAL_WGMMA_TEXT_SS(N, KIND, FLAGS, A, B, ACCUMULATE, ...) \
  FOVEAL_WGMMA_TEXT(N, KIND, FLAGS, A, B, ACCUMULATE)
#define FOVEAL_WGMMA_TEXT_RS(N, KIND, FLAGS, A0, A1, A2, A3, B, ACCUMULATE) \
  FOVEAL_WGMMA_TEXT(N, KIND, FLAGS, "{" A0 ", " A1 ", " A2 ", " A3 "}", B, ACCUMULATE)
/// So that a list among the arguments becomes arguments.
#define FOVEAL_WGMMA_EXPAND(MACRO, ...) MACRO(__VA_ARGS__)

#define FOVEAL_WGMMA_SS(NAME, N, KIND, FLAGS)                                              \
  __device__ static void NAME(float(&d)[N / 2], uint64_t a, uint64_t b, int accumulate) {  \
    asm volatile(                                                                          \
        FOVEAL_WGMMA_EXPAND(FOVEAL_WGMMA_TEXT_SS, N, KIND, FLAGS, FOVEAL_WGMMA_BEHIND_##N) \
        : FOVEAL_WGMMA_D_##N("+f")                                                         \
        : "l"(a), "l"(b), "r"(accumulate));                                                \
  }
#define FOVEAL_WGMMA_RS(NAME, N, D, CONSTRAINT, KIND, FLAGS)                                     \
  __device__ static void NAME(D(&d)[N / 2], const uint32_t(&a)[4], uint64_t b, int accumulate) { \
    asm volatile(                                                                                \
        FOVEAL_WGMMA_EXPAND(FOVEAL_WGMMA_TEXT_RS, N, KIND, FLAGS, FOVEAL_WGMMA_BEHIND_##N)       \
        : FOVEAL_WGMMA_D_##N(CONSTRAINT)                                                         \
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(accumulate));                  \
  }

// FLAGS: what A and B are scaled by, then whether each lies across the reduced dimension (A only
// in shared memory).
#define FOVEAL_WGMMA_16_BITS(ELEMENT, N, TYPES)                          \
  template <>                                                            \
  struct Wgmma<ELEMENT, N> {                                             \
    FOVEAL_WGMMA_SS(ss, N, "k16.f32." TYPES, ", 1, 1, 0, 0")             \
    FOVEAL_WGMMA_SS(ss_n, N, "k16.f32." TYPES, ", 1, 1, 0, 1")           \
    FOVEAL_WGMMA_RS(rs, N, float, "+f", "k16.f32." TYPES, ", 1, 1, 0")   \
    FOVEAL_WGMMA_RS(rs_n, N, float, "+f", "k16.f32." TYPES, ", 1, 1, 1") \
  };
#define FOVEAL_WGMMA_BF16_F16(N)             \
  FOVEAL_WGMMA_16_BITS(Bf16, N, "bf16.bf16") \
  FOVEAL_WGMMA_16_BITS(F16, N, "f16.f16")
FOVEAL_WGMMA_BF16_F16(48)
FOVEAL_WGMMA_BF16_F16(64)
FOVEAL_WGMMA_BF16_F16(96)
FOVEAL_WGMMA_BF16_F16(128)
FOVEAL_WGMMA_BF16_F16(192)
FOVEAL_WGMMA_BF16_F16(256)

#define FOVEAL_WGMMA_E4M3(N)                                           \
  template <>                                                          \
  struct Wgmma<E4m3, N> {                                              \
    FOVEAL_WGMMA_SS(ss, N, "k32.f32.e4m3.e4m3", ", 1, 1")              \
    FOVEAL_WGMMA_RS(rs, N, float, "+f", "k32.f32.e4m3.e4m3", ", 1, 1") \
  };
FOVEAL_WGMMA_E4M3(8)
FOVEAL_WGMMA_E4M3(16)
FOVEAL_WGMMA_E4M3(32)
FOVEAL_WGMMA_E4M3(64)
FOVEAL_WGMMA_E4M3(72)
FOVEAL_WGMMA_E4M3(96)
FOVEAL_WGMMA_E4M3(104)
FOVEAL_WGMMA_E4M3(128)
FOVEAL_WGMMA_E4M3(136)
FOVEAL_WGMMA_E4M3(200)
FOVEAL_WGMMA_E4M3(256)

#define FOVEAL_WGMMA_S8(N)                                     \
  template <>                                                  \
  struct Wgmma<S8, N> {                                        \
    FOVEAL_WGMMA_RS(rs, N, int32_t, "+r", "k32.s32.s8.s8", "") \
  };
FOVEAL_WGMMA_S8(32)
FOVEAL_WGMMA_S8(64)

}  // namespace foveal::cuda

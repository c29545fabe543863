#pragma once

#include <cstdint>

namespace foveal::cuda {

/// Counts up and back to 0 past `limit`; returns the value before. What this CTA's threads wrote
/// before their last barrier is visible to whoever sees the new value, and the other way round.
__device__ inline uint32_t atomic_inc_acq_rel(uint32_t* counter, uint32_t limit) {
  uint32_t before;
  asm volatile("atom.acq_rel.gpu.global.inc.u32 %0, [%1], %2;"
               : "=r"(before)
               : "l"(__cvta_generic_to_global(counter)), "r"(limit)
               : "memory");
  return before;
}

// Words that CTAs pass to one another without a fence: whoever wants one reads it again until it is
// there, so nothing has to be ordered with anything else.

__device__ inline float2 load_relaxed(const float2* from) {
  float2 v;
  asm volatile("ld.relaxed.gpu.global.v2.f32 {%0, %1}, [%2];"
               : "=f"(v.x), "=f"(v.y)
               : "l"(__cvta_generic_to_global(from))
               : "memory");
  return v;
}
__device__ inline float4 load_relaxed(const float4* from) {
  float4 v;
  asm volatile("ld.relaxed.gpu.global.v4.f32 {%0, %1, %2, %3}, [%4];"
               : "=f"(v.x), "=f"(v.y), "=f"(v.z), "=f"(v.w)
               : "l"(__cvta_generic_to_global(from))
               : "memory");
  return v;
}
__device__ inline void store_relaxed(float2* to, const float2& v) {
  asm volatile("st.relaxed.gpu.global.v2.f32 [%0], {%1, %2};" ::"l"(__cvta_generic_to_global(to)),
               "f"(v.x), "f"(v.y)
               : "memory");
}
__device__ inline void store_relaxed(float4* to, const float4& v) {
  asm volatile(
      "st.relaxed.gpu.global.v4.f32 [%0], {%1, %2, %3, %4};" ::"l"(__cvta_generic_to_global(to)),
      "f"(v.x), "f"(v.y), "f"(v.z), "f"(v.w)
      : "memory");
}

/// A load that starts here, wherever its value is wanted.
__device__ inline int32_t load_now(const int32_t* from) {
  int32_t v;
  asm volatile("ld.global.s32 %0, [%1];" : "=r"(v) : "l"(__cvta_generic_to_global(from)));
  return v;
}
/// Of memory that nobody writes while the kernel runs.
__device__ inline uint4 load_now(const uint4* from) {
  uint4 v;
  asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "l"(__cvta_generic_to_global(from)));
  return v;
}
__device__ inline uint2 load_now(const uint2* from) {
  uint2 v;
  asm volatile("ld.global.nc.L1::no_allocate.v2.u32 {%0, %1}, [%2];"
               : "=r"(v.x), "=r"(v.y)
               : "l"(__cvta_generic_to_global(from)));
  return v;
}

}  // namespace foveal::cuda

#pragma once

#include <cstdint>

#include "kernels/cuda/device/mbarrier.cuh"

// Asynchronous copies from global to shared memory by the threads themselves (PTX ISA, "cp.async"),
// and hints to the second-level cache.

namespace foveal::cuda {

/// Copies kBytes (4, 8 or 16; both addresses so aligned), of which the first `valid` come from
/// global memory and the rest are zeros. With `valid` 0 nothing is read.
template <int kBytes>
__device__ inline void cp_async(uint32_t shared_address, const void* global, uint32_t valid) {
  static_assert(kBytes == 4 || kBytes == 8 || kBytes == 16);
  if constexpr (kBytes == 16) {
    asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(shared_address),
                 "l"(__cvta_generic_to_global(global)), "r"(valid)
                 : "memory");
  } else {
    asm volatile("cp.async.ca.shared.global.L2::128B [%0], [%1], %2, %3;" ::"r"(shared_address),
                 "l"(__cvta_generic_to_global(global)), "n"(kBytes), "r"(valid)
                 : "memory");
  }
}

__device__ inline void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

/// Until at most `kPending` of this thread's newest groups are unfinished.
template <int kPending>
__device__ inline void cp_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

/// Arrives on the barrier, as one of its count, when all copies of this thread so far have landed.
__device__ inline void cp_async_arrive(Barrier* barrier) {
  asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" ::"r"(smem_address(barrier))
               : "memory");
}

/// Starts bringing the line that holds `global` into the second-level cache.
__device__ inline void prefetch_l2(const void* global) {
  asm volatile("prefetch.global.L2 [%0];" ::"l"(__cvta_generic_to_global(global)));
}

__device__ inline uint4 load_shared_16(uint32_t shared) {
  uint4 out;
  asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(out.x), "=r"(out.y), "=r"(out.z), "=r"(out.w)
               : "r"(shared)
               : "memory");
  return out;
}

__device__ inline void store_shared_16(uint32_t shared, const uint4& x) {
  asm volatile("st.shared.v4.u32 [%0], {%1, %2, %3, %4};" ::"r"(shared), "r"(x.x), "r"(x.y),
               "r"(x.z), "r"(x.w)
               : "memory");
}

}  // namespace foveal::cuda

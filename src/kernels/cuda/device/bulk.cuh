#pragma once

#include <cstdint>

#include "kernels/cuda/device/mbarrier.cuh"

// Bulk copies between the shared memories of a cluster (PTX ISA, "cp.async.bulk").

namespace foveal::cuda {

/// The address of `pointer`'s counterpart in another CTA of the cluster.
__device__ inline uint32_t cluster_address(const void* pointer, uint32_t cta_rank) {
  uint32_t remote;
  asm volatile("mapa.shared::cluster.u32 %0, %1, %2;"
               : "=r"(remote)
               : "r"(smem_address(pointer)), "r"(cta_rank));
  return remote;
}

/// Tells the counterpart of `barrier` in another CTA of `bytes` to come, and arrives on it; then
/// sends them (a multiple of 16) to `remote`. Preceded, in every thread that wrote the bytes, by
/// async_proxy_fence and a barrier.
__device__ inline void bulk_send(uint32_t remote, const void* from, uint32_t bytes,
                                 const Barrier* barrier, uint32_t cta_rank) {
  const uint32_t remote_barrier = cluster_address(barrier, cta_rank);
  asm volatile("mbarrier.arrive.expect_tx.shared::cluster.b64 _, [%0], %1;" ::"r"(remote_barrier),
               "r"(bytes)
               : "memory");
  asm volatile(
      "cp.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes [%0], [%1], %2, "
      "[%3];" ::"r"(remote),
      "r"(smem_address(from)), "r"(bytes), "r"(remote_barrier)
      : "memory");
}

/// Writes a word of another CTA's shared memory.
__device__ inline void store_cluster(uint32_t remote, uint32_t value) {
  asm volatile("st.shared::cluster.u32 [%0], %1;" ::"r"(remote), "r"(value) : "memory");
}

}  // namespace foveal::cuda

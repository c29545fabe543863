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

/// barrier_arrive_expect on the counterpart of `barrier` in another CTA.
__device__ inline void barrier_arrive_expect_cluster(const Barrier* barrier, uint32_t bytes,
                                                     uint32_t cta_rank) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cluster.b64 _, [%0], %1;" ::"r"(
                   cluster_address(barrier, cta_rank)),
               "r"(bytes)
               : "memory");
}

/// Tells the counterpart of `barrier` in another CTA of `bytes` to come, and arrives on it; then
/// sends them (a multiple of 16) to `remote`. Preceded, in every thread that wrote the bytes, by
/// async_proxy_fence and a barrier.
__device__ inline void bulk_send(uint32_t remote, const void* from, uint32_t bytes,
                                 const Barrier* barrier, uint32_t cta_rank) {
  const uint32_t remote_barrier = cluster_address(barrier, cta_rank);
  barrier_arrive_expect_cluster(barrier, bytes, cta_rank);
  asm volatile(
      "cp.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes [%0], [%1], %2, "
      "[%3];" ::"r"(remote),
      "r"(smem_address(from)), "r"(bytes), "r"(remote_barrier)
      : "memory");
}

/// barrier_send_cluster of two or four words.
__device__ inline void barrier_send_cluster(uint2* to, const uint2& value, Barrier* barrier,
                                            uint32_t cta_rank) {
  asm volatile(
      "st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.v2.u32 [%0], {%1, %2}, [%3];" ::
          "r"(cluster_address(to, cta_rank)),
      "r"(value.x), "r"(value.y), "r"(cluster_address(barrier, cta_rank))
      : "memory");
}
__device__ inline void barrier_send_cluster(uint4* to, const uint4& value, Barrier* barrier,
                                            uint32_t cta_rank) {
  asm volatile(
      "st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.v4.u32 [%0], {%1, %2, %3, %4}, "
      "[%5];" ::"r"(cluster_address(to, cta_rank)),
      "r"(value.x), "r"(value.y), "r"(value.z), "r"(value.w),
      "r"(cluster_address(barrier, cta_rank))
      : "memory");
}

/// Writes a word of another CTA's shared memory.
__device__ inline void store_cluster(uint32_t remote, uint32_t value) {
  asm volatile("st.shared::cluster.u32 [%0], %1;" ::"r"(remote), "r"(value) : "memory");
}

}  // namespace foveal::cuda

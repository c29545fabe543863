#pragma once

#include <cuda.h>

#include <cstdint>

#include "kernels/cuda/device/mbarrier.cuh"

// Bulk tensor copies (PTX ISA, "cp.async.bulk.tensor"). Coordinates are innermost first, in
// elements. A copy completes on a barrier of the CTA that it writes to.

namespace foveal::cuda {

__device__ inline void tma_prefetch(const CUtensorMap* map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
}

/// What L2 should do with a copy's lines (createpolicy encodings).
enum class CacheHint : uint64_t {
  kEvictFirst = 0x12F0000000000000ULL,
  kEvictLast = 0x14F0000000000000ULL,
};

__device__ inline void tma_load_3d(const CUtensorMap* map, Barrier* barrier, void* smem,
                                   CacheHint hint, int x, int y, int z) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint"
      " [%0], [%1, {%3, %4, %5}], [%2], %6;" ::"r"(smem_address(smem)),
      "l"(map), "r"(smem_address(barrier)), "r"(x), "r"(y), "r"(z), "l"(static_cast<uint64_t>(hint))
      : "memory");
}

__device__ inline void tma_load_4d(const CUtensorMap* map, Barrier* barrier, void* smem,
                                   CacheHint hint, int x, int y, int z, int w) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint"
      " [%0], [%1, {%3, %4, %5, %6}], [%2], %7;" ::"r"(smem_address(smem)),
      "l"(map), "r"(smem_address(barrier)), "r"(x), "r"(y), "r"(z), "r"(w),
      "l"(static_cast<uint64_t>(hint))
      : "memory");
}

/// Into the same shared address of every CTA in `cta_mask`, completing on each one's own barrier.
__device__ inline void tma_multicast_4d(const CUtensorMap* map, Barrier* barrier, void* smem,
                                        uint16_t cta_mask, CacheHint hint, int x, int y, int z,
                                        int w) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes"
      ".multicast::cluster.L2::cache_hint [%0], [%1, {%4, %5, %6, %7}], [%2], %3, %8;" ::"r"(
          smem_address(smem)),
      "l"(map), "r"(smem_address(barrier)), "h"(cta_mask), "r"(x), "r"(y), "r"(z), "r"(w),
      "l"(static_cast<uint64_t>(hint))
      : "memory");
}

/// `bytes` in a row; both addresses and the size are multiples of 16.
__device__ inline void bulk_load(Barrier* barrier, void* smem, const void* global, uint32_t bytes) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::
          "r"(smem_address(smem)),
      "l"(__cvta_generic_to_global(global)), "r"(bytes), "r"(smem_address(barrier))
      : "memory");
}
__device__ inline void bulk_load(Barrier* barrier, void* smem, const void* global, uint32_t bytes,
                                 CacheHint hint) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint"
      " [%0], [%1], %2, [%3], %4;" ::"r"(smem_address(smem)),
      "l"(__cvta_generic_to_global(global)), "r"(bytes), "r"(smem_address(barrier)),
      "l"(static_cast<uint64_t>(hint))
      : "memory");
}

/// The same into every CTA in `cta_mask`, as tma_multicast_4d.
__device__ inline void bulk_multicast(Barrier* barrier, void* smem, const void* global,
                                      uint32_t bytes, uint16_t cta_mask, CacheHint hint) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster"
      ".L2::cache_hint [%0], [%1], %2, [%3], %4, %5;" ::"r"(smem_address(smem)),
      "l"(__cvta_generic_to_global(global)), "r"(bytes), "r"(smem_address(barrier)), "h"(cta_mask),
      "l"(static_cast<uint64_t>(hint))
      : "memory");
}

/// Orders this thread's ordinary writes to shared memory before what the asynchronous units (wgmma,
/// bulk copies) do after the next barrier.
__device__ inline void async_proxy_fence() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

}  // namespace foveal::cuda

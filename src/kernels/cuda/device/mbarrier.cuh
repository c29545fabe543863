#pragma once

#include <cstdint>

// Transaction barriers in shared memory (PTX ISA, "mbarrier"). A barrier's phase flips when its
// arrivals and the bytes it expects have all come; waiting names the parity of the phase awaited.

namespace foveal::cuda {

using Barrier = uint64_t;

__device__ inline uint32_t smem_address(const void* pointer) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

__device__ inline void barrier_init(Barrier* barrier, uint32_t arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(smem_address(barrier)),
               "r"(arrivals));
}

/// Makes initialised barriers visible to the asynchronous units and to the cluster.
__device__ inline void barrier_init_fence() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

__device__ inline void barrier_arrive(Barrier* barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(smem_address(barrier)) : "memory");
}

/// Arrives on the barrier at the same address in another CTA of the cluster (its own rank works
/// too). Orders nothing but what the barrier's own CTA did: enough to hand back a stage that was
/// only read. (`.release.cluster` would cost a fence of the whole GPU.)
__device__ inline void barrier_arrive_cluster(Barrier* barrier, uint32_t cta_rank) {
  asm volatile(
      "{\n.reg .b32 remote;\n"
      "mapa.shared::cluster.u32 remote, %0, %1;\n"
      "mbarrier.arrive.shared::cluster.b64 _, [remote];\n}" ::"r"(smem_address(barrier)),
      "r"(cta_rank)
      : "memory");
}

/// Writes a word, and the arrival of its four bytes, at the same addresses in another CTA.
__device__ inline void barrier_send_cluster(uint32_t* to, uint32_t value, Barrier* barrier,
                                            uint32_t cta_rank) {
  asm volatile(
      "{\n.reg .b32 remote, remote_barrier;\n"
      "mapa.shared::cluster.u32 remote, %0, %3;\n"
      "mapa.shared::cluster.u32 remote_barrier, %2, %3;\n"
      "st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.u32 [remote], %1, "
      "[remote_barrier];\n}" ::"r"(smem_address(to)),
      "r"(value), "r"(smem_address(barrier)), "r"(cta_rank)
      : "memory");
}

/// One arrival, and `bytes` more to come by bulk copies before the phase may flip.
__device__ inline void barrier_arrive_expect(Barrier* barrier, uint32_t bytes) {
  asm volatile(
      "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(smem_address(barrier)),
      "r"(bytes)
      : "memory");
}

__device__ inline bool barrier_try_wait(Barrier* barrier, uint32_t parity) {
  uint32_t done;
  asm volatile(
      "{\n.reg .pred p;\n"
      "mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n"
      "selp.u32 %0, 1, 0, p;\n}"
      : "=r"(done)
      : "r"(smem_address(barrier)), "r"(parity)
      : "memory");
  return done != 0;
}

/// Sees what bulk copies and barrier_send_cluster brought. It orders no ordinary writes of other
/// CTAs (`.acquire.cluster` would, by emptying L1 each time).
__device__ inline void barrier_wait(Barrier* barrier, uint32_t parity) {
  while (!barrier_try_wait(barrier, parity)) {
  }
}

/// Position in a ring of stages, and the parity of its barriers.
template <int kStages>
struct Ring {
  int stage = 0;
  uint32_t parity = 0;
  __device__ void next() {
    if (++stage == kStages) {
      stage = 0;
      parity ^= 1;
    }
  }
};

/// One lane of a converged warp, which the compiler knows to be one.
__device__ inline bool elect_lane() {
  uint32_t elected;
  asm volatile(
      "{\n.reg .pred p;\n"
      "elect.sync _|p, 0xffffffff;\n"
      "selp.u32 %0, 1, 0, p;\n}"
      : "=r"(elected));
  return elected != 0;
}

/// Named barriers of the CTA: `threads` counts those that sync and those that only arrive.
__device__ inline void named_sync(uint32_t id, uint32_t threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}
__device__ inline void named_arrive(uint32_t id, uint32_t threads) {
  asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
}
/// Syncs and tells whether `vote` holds in every one of the threads.
__device__ inline bool named_sync_all(uint32_t id, uint32_t threads, bool vote) {
  uint32_t all;
  asm volatile(
      "{\n.reg .pred in, out;\n"
      "setp.ne.u32 in, %1, 0;\n"
      "barrier.cta.red.and.pred out, %2, %3, in;\n"
      "selp.u32 %0, 1, 0, out;\n}"
      : "=r"(all)
      : "r"(static_cast<uint32_t>(vote)), "r"(id), "r"(threads)
      : "memory");
  return all != 0;
}

__device__ inline void cluster_arrive() {
  asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
}
/// Orders nothing: no fence of the whole GPU, which `cluster_arrive` is. Enough to say that this
/// CTA runs and, after barrier_init_fence, that its barriers are there.
__device__ inline void cluster_arrive_relaxed() {
  asm volatile("barrier.cluster.arrive.relaxed.aligned;" ::: "memory");
}
__device__ inline void cluster_wait() {
  asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
}
__device__ inline void cluster_sync() {
  cluster_arrive();
  cluster_wait();
}

__device__ inline uint32_t cluster_rank() {
  uint32_t rank;
  asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}

/// Moves registers between warpgroups: each must be one branch of the kernel, whose register count
/// at entry is capped by its launch bounds.
template <int kRegisters>
__device__ inline void registers_grow() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}
template <int kRegisters>
__device__ inline void registers_shrink() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

}  // namespace foveal::cuda

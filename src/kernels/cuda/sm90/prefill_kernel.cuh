#pragma once

#include <type_traits>

#include "kernels/cuda/sm90/prefill_consumer.cuh"
#include "kernels/cuda/sm90/prefill_producer.cuh"
#include "kernels/cuda/sm90/prefill_voting.cuh"

namespace foveal::cuda {

/// What a consumer warpgroup runs; kernels with consumers of their own specialise it.
template <class Traits>
struct PrefillRoles {
  /// By all threads, before anything else.
  __device__ static void prepare(PrefillShared<Traits>& /*shared*/) {}
  __device__ static void consume(PrefillShared<Traits>& shared, const PrefillArgs& args,
                                 int group) {
    using Consumer =
        std::conditional_t<Traits::kSkip, VotingConsumer<Traits>, PrefillConsumer<Traits>>;
    Consumer(shared, args, group).run();
  }
};

/// Computes:  out = softmax(scale * q K^T + causal or window mask) V, tile by tile with a running
///            softmax (FlashAttention); with kSkip key tiles are dropped as BLASST says, with
///            kListed only those of args.kept are there. VoteTraits: args.kept, by int8 scores.
/// In/out:    q [rows, num_heads, head_dim], out likewise; K and V by pages or contiguous; see
///            include/foveal/kernels.h for strides and ragged batches.
/// Units:     keys and rows; scores stay unscaled, exponents are base 2.
/// Launch:    persistent: one CTA of 1 + kWarpgroups warpgroups an SM, in clusters of kCluster,
///            whose CTAs work on different heads of one KV head and copy K and V once for all;
///            shared memory sizeof(PrefillShared).
/// Needs:     sm_90a; rows of q, k, v and out at multiples of 16 bytes.
/// Numerics:  float32 scores, sums and output; probabilities rounded to Element. A row that sees no
///            key gives 0. Deterministic; a row's result depends on its sequence alone.
///            All in e4m3 (E4m3Traits): both products in e4m3, probabilities rounded to it.
///            Votes in int8 (VoteTraits): integers, no softmax and no output but a bit a tile.
/// Source:    FlashAttention-3 (arXiv 2407.08608) for the two overlaps, BLASST (arXiv 2512.12087);
///            the lagging reference maximum as in FlashAttention-4; the multicast is ours.
/// Measured:  docs/kernels/cuda_prefill.md
template <class Traits>
__global__ void __launch_bounds__(Traits::kThreads, 1)
    prefill_kernel(const __grid_constant__ PrefillArgs args,
                   const __grid_constant__ CUtensorMap q_map,
                   const __grid_constant__ CUtensorMap k_map,
                   const __grid_constant__ CUtensorMap v_map) {
  extern __shared__ __align__(1024) uint8_t raw[];
  auto& shared = *reinterpret_cast<PrefillShared<Traits>*>(raw);
  PrefillRoles<Traits>::prepare(shared);
  if (threadIdx.x == 0) {
    constexpr uint32_t kConsumerWarps = Traits::kWarpgroups * 4;
    for (int i = 0; i < 2; ++i) {
      barrier_init(&shared.item_full[i], 1);
      barrier_init(&shared.item_empty[i], kConsumerWarps + (Traits::kValuesApart ? 1 : 0));
    }
    for (auto& barrier : shared.next_full) barrier_init(&barrier, 1);
    for (int i = 0; i < Traits::kQueryStages; ++i) {
      barrier_init(&shared.q_full[i], 1);
      barrier_init(&shared.q_empty[i], kConsumerWarps);
    }
    for (int i = 0; i < Traits::kKeyStages; ++i) {
      barrier_init(&shared.k_full[i], 1);
      barrier_init(&shared.k_empty[i], kConsumerWarps * Traits::kCluster);
    }
    if constexpr (Traits::kValueStages > 0) {
      for (int i = 0; i < Traits::kValueStages; ++i) {
        barrier_init(&shared.v_full[i], 1);
        barrier_init(&shared.v_empty[i], kConsumerWarps * Traits::kCluster);
      }
    }
    if constexpr (Traits::kSkip) {
      for (auto& group : shared.kept) {
        for (uint32_t& vote : group) vote = 0;
      }
    }
    barrier_init_fence();
    tma_prefetch(&q_map);
    tma_prefetch(&k_map);
    tma_prefetch(&v_map);
  }
  if constexpr (Traits::kCluster == 1) {
    __syncthreads();
  } else {
    cluster_sync();
  }
  // By a shuffle, so that the compiler knows it to be the same in a warp: descriptors of the
  // products and barriers' addresses then stay in uniform registers.
  const int warpgroup = __shfl_sync(~0U, static_cast<int>(threadIdx.x) / 128, 0);
  if (warpgroup == 0) {
    registers_shrink<Traits::kProducerRegisters>();
    const uint32_t rank = Traits::kCluster == 1 ? 0 : cluster_rank();
    PrefillProducer<Traits> producer{.shared = shared,
                                     .args = args,
                                     .q_map = &q_map,
                                     .k_map = &k_map,
                                     .v_map = &v_map,
                                     .cta_rank = rank};
    if (threadIdx.x < 32) {
      producer.run(PrefillSchedule<Traits>{.shared = shared, .args = args, .cta_rank = rank});
    } else if constexpr (Traits::kValuesApart) {
      if (threadIdx.x < 64) producer.run_values();
    }
  } else {
    registers_grow<Traits::kConsumerRegisters>();
    PrefillRoles<Traits>::consume(shared, args, warpgroup - 1);
  }
  // Another CTA of the cluster may still copy into this one, or arrive at its barriers.
  if constexpr (Traits::kCluster > 1) cluster_sync();
}

}  // namespace foveal::cuda

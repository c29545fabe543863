#pragma once

#include <cmath>

#include "kernels/cuda/sm90/prefill_traits.cuh"

namespace foveal::cuda {

/// What consumers of all kinds share: one warpgroup and its 64 query rows of a block.
template <class Traits>
struct PrefillUnit {
  static constexpr uint32_t kTurnBarrier = 1;  ///< + warpgroup

  PrefillShared<Traits>& shared;
  const PrefillArgs& args;
  int group;  ///< warpgroup among the consumers

  int32_t thread = threadIdx.x % 128;
  int32_t lane = threadIdx.x % 32;
  Ring<Traits::kKeyStages> k_ring{};
  Ring<2> slot{};
  Ring<Traits::kQueryStages> q_ring{};

  PrefillItem item;

  __device__ PrefillUnit(PrefillShared<Traits>& of, const PrefillArgs& with, int number)
      : shared(of), args(with), group(number) {}

  /// The next query block, from the producer; false when there is none.
  __device__ bool take_item() {
    barrier_wait(&shared.item_full[slot.stage], slot.parity);
    item = shared.items[slot.stage];
    __syncwarp();
    if (lane == 0) barrier_arrive(&shared.item_empty[slot.stage]);
    slot.next();
    return item.seq >= 0;
  }

  /// `compute` for every query block in turn. Of warpgroups that take turns the first one starts.
  template <class Compute>
  __device__ void each_item(const Compute& compute) {
    if (group == Traits::kWarpgroups - 1) give_turn();
    while (take_item()) compute();
  }

  /// Tiles of which all rows see all keys: [begin, end).
  struct Tiles {
    int32_t begin, end;
    __device__ bool contain(int32_t tile) const { return tile >= begin && tile < end; }
  };
  __device__ Tiles whole_tiles() const {
    const int32_t first_position = item.position + group * 64;
    const int32_t last_position = first_position + 63;
    const int32_t begin =
        args.window > 0
            ? (max(0, last_position - args.window + 1) + Traits::kKeys - 1) / Traits::kKeys
            : 0;
    return {begin, (first_position + 1) / Traits::kKeys};
  }

  __device__ void wait_turn() { named_sync(kTurnBarrier + group, 256); }
  __device__ void give_turn() {
    named_arrive(kTurnBarrier + (group + 1) % Traits::kWarpgroups, 256);
  }

  __device__ void release(Barrier* empty) {
    if constexpr (Traits::kCluster == 1) {
      if (lane == 0) barrier_arrive(empty);
    } else {
      if (lane < Traits::kCluster) barrier_arrive_cluster(empty, lane);
    }
  }

  __device__ void release_queries() {
    if (lane == 0) barrier_arrive(&shared.q_empty[q_ring.stage]);
    q_ring.next();
  }

  __device__ void wait_queries() { barrier_wait(&shared.q_full[q_ring.stage], q_ring.parity); }

  __device__ void hand_back_keys() {
    release(&shared.k_empty[k_ring.stage]);
    k_ring.next();
  }

  /// Keys of a tile that row `row` of the unit sees.
  __device__ int32_t keys_seen(int32_t row, int32_t tile) const {
    const int32_t position = item.position + group * 64 + row;
    const int32_t low = args.window > 0 ? max(0, position - args.window + 1) : 0;
    const int32_t begin = max(low, tile * Traits::kKeys);
    const int32_t end = min(position + 1, (tile + 1) * Traits::kKeys);
    return max(0, end - begin);
  }
};

}  // namespace foveal::cuda

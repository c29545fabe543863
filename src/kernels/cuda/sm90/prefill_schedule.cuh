#pragma once

#include <cstdint>

#include "kernels/cuda/device/reduce.cuh"
#include "kernels/cuda/sm90/prefill_traits.cuh"

// Which cluster computes which query block: the next one in order, taken from a counter in device
// memory. Order: sequences; in one, groups of KV heads whose K and V fit L2 together; in a group,
// query blocks from the last (longest) to the first, so that the short ones fill the gaps at the
// end; then heads.

namespace foveal::cuda {

template <class Traits>
struct PrefillSchedule {
  PrefillShared<Traits>& shared;
  const PrefillArgs& args;
  uint32_t cta_rank;
  Ring<kPrefillNextSlots> slot{};
  int32_t lane = threadIdx.x % 32;

  /// The cluster's first CTA takes the next number and tells the others. One that is alone stores
  /// it: memcheck takes a remote store for a fault where there is no cluster.
  __device__ void take() {
    if (lane != 0) return;
    if constexpr (Traits::kCluster == 1) {
      shared.next_index[slot.stage] = atomicAdd(args.next_item, 1U);
      barrier_arrive(&shared.next_full[slot.stage]);
    } else {
      barrier_arrive_expect(&shared.next_full[slot.stage], sizeof(uint32_t));
      if (cta_rank != 0) return;
      const uint32_t index = atomicAdd(args.next_item, 1U);
      for (uint32_t rank = 0; rank < Traits::kCluster; ++rank) {
        barrier_send_cluster(&shared.next_index[slot.stage], index, &shared.next_full[slot.stage],
                             rank);
      }
    }
  }

  /// The item that was taken; all lanes get it.
  __device__ PrefillItem next() {
    __syncwarp();
    barrier_wait(&shared.next_full[slot.stage], slot.parity);
    const uint32_t index = shared.next_index[slot.stage];
    slot.next();
    const int32_t units = args.num_heads / Traits::kCluster;
    uint32_t before = 0;
    for (int32_t base = 0; base < args.num_seqs; base += 32) {
      const int32_t seq = base + lane;
      uint32_t items = 0;
      if (seq < args.num_seqs) {
        const int32_t rows = args.cu_q[seq + 1] - args.cu_q[seq];
        items = static_cast<uint32_t>((rows + Traits::kRows - 1) / Traits::kRows * units);
      }
      const uint32_t up_to = kernels::cuda::warp_prefix_sum(items, lane);
      const uint32_t reach = __ballot_sync(~0U, before + up_to > index);
      if (reach != 0) {
        const int owner = __ffs(static_cast<int>(reach)) - 1;
        const uint32_t start = before + __shfl_sync(~0U, up_to - items, owner);
        return item(base + owner, static_cast<int32_t>(index - start));
      }
      before += __shfl_sync(~0U, up_to, 31);
    }
    // The last cluster to find nothing leaves the counter as it was.
    const uint32_t num_clusters = gridDim.x / Traits::kCluster;
    if (lane == 0 && cta_rank == 0 && index - before == num_clusters - 1) *args.next_item = 0;
    return PrefillItem{.seq = -1};
  }

  __device__ PrefillItem item(int32_t seq, int32_t index) const {
    const int32_t q_begin = args.cu_q[seq];
    const int32_t q_len = args.cu_q[seq + 1] - q_begin;
    const int32_t kv_len = args.kv_len[seq];
    const int32_t blocks = (q_len + Traits::kRows - 1) / Traits::kRows;
    const int32_t units = args.num_heads / Traits::kCluster;
    const int32_t units_a_kv_head = args.group / Traits::kCluster;
    const int32_t l2_keys = args.l2_head_bytes / Traits::kKeyBytes;
    const int32_t kv_heads = min(args.num_kv_heads, max(1, l2_keys / max(kv_len, 1)));
    const int32_t group_units = kv_heads * units_a_kv_head;
    const int32_t group = index / (group_units * blocks);
    const int32_t in_group = index - group * group_units * blocks;
    const int32_t width = min(group_units, units - group * group_units);
    const int32_t block = blocks - 1 - in_group / width;
    const int32_t unit = group * group_units + in_group % width;

    PrefillItem out;
    out.seq = seq;
    out.head = unit * Traits::kCluster + static_cast<int32_t>(cta_rank);
    out.first_row = q_begin + block * Traits::kRows;
    out.num_rows = min(Traits::kRows, q_len - block * Traits::kRows);
    out.position = kv_len - q_len + block * Traits::kRows;
    out.kv_len = kv_len;
    out.key_base = args.cu_k == nullptr ? 0 : args.cu_k[seq];
    const int32_t first_key = args.window > 0 ? max(0, out.position - args.window + 1) : 0;
    out.first_tile = first_key / Traits::kKeys;
    const int32_t end_key = out.position + out.num_rows;
    // One tile at least, masked, where rows see nothing: every role counts the same tiles.
    out.end_tile = max(out.first_tile + 1, (end_key + Traits::kKeys - 1) / Traits::kKeys);
    out.log2_threshold = -INFINITY;
    if constexpr (Traits::kSkip) {
      float factor = args.skip_factor;
      if (args.skip_factors != nullptr && args.skip_factors[seq] >= 0)
        factor = args.skip_factors[seq];
      const int32_t length = args.threshold_len == nullptr ? kv_len : args.threshold_len[seq];
      if (factor > 0 && factor < static_cast<float>(length)) {
        out.log2_threshold = log2f(factor / static_cast<float>(length));
      }
    }
    return out;
  }
};

}  // namespace foveal::cuda

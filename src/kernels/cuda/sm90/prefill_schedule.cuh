#pragma once

#include <cstdint>

#include "kernels/cuda/sm90/prefill_traits.cuh"

// Which cluster computes which query block, without talking to anyone: cluster c takes, of the items
// in order, every num_clusters-th, back and forth (c, 2n - 1 - c, 2n + c, ...), so that work that
// falls along the order comes out even. Order: sequences; in one, groups of KV heads whose K and V
// fit L2 together; in a group, query blocks from the last (longest) to the first; then heads.

namespace foveal::cuda {

template <class Traits>
struct PrefillSchedule {
  const PrefillArgs& args;
  uint32_t cluster_idx;
  uint32_t num_clusters;
  uint32_t cta_rank;
  int64_t round = 0;
  int32_t lane = threadIdx.x % 32;

  /// The warp's next item; all lanes get it.
  __device__ PrefillItem next() {
    const bool back = round % 2 != 0;
    const int64_t index = round * num_clusters + (back ? num_clusters - 1 - cluster_idx : cluster_idx);
    ++round;
    const int32_t units = args.num_heads / Traits::kCluster;
    int64_t before = 0;
    for (int32_t base = 0; base < args.num_seqs; base += 32) {
      const int32_t seq = base + lane;
      int64_t items = 0;
      if (seq < args.num_seqs) {
        const int32_t rows = args.cu_q[seq + 1] - args.cu_q[seq];
        items = int64_t{(rows + Traits::kRows - 1) / Traits::kRows} * units;
      }
      int64_t up_to = items;
#pragma unroll
      for (int step = 1; step < 32; step *= 2) {
        const int64_t other = __shfl_up_sync(~0U, up_to, step);
        if (lane >= step) up_to += other;
      }
      const uint32_t reach = __ballot_sync(~0U, before + up_to > index);
      if (reach != 0) {
        const int owner = __ffs(static_cast<int>(reach)) - 1;
        const int64_t start = before + __shfl_sync(~0U, up_to - items, owner);
        return item(base + owner, static_cast<int32_t>(index - start));
      }
      before += __shfl_sync(~0U, up_to, 31);
    }
    return PrefillItem{.seq = -1};
  }

  __device__ PrefillItem item(int32_t seq, int32_t index) const {
    const int32_t q_begin = args.cu_q[seq];
    const int32_t q_len = args.cu_q[seq + 1] - q_begin;
    const int32_t kv_len = args.kv_len[seq];
    const int32_t blocks = (q_len + Traits::kRows - 1) / Traits::kRows;
    const int32_t units = args.num_heads / Traits::kCluster;
    const int32_t units_a_kv_head = units / args.num_kv_heads;
    const int64_t head_bytes = int64_t{max(kv_len, 1)} * Traits::kHeadDim * 4;
    const auto kv_heads = static_cast<int32_t>(
        min(int64_t{args.num_kv_heads}, max(int64_t{1}, args.l2_head_bytes / head_bytes)));
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
    out.end_tile = (out.position + out.num_rows + Traits::kKeys - 1) / Traits::kKeys;
    out.log2_threshold = -INFINITY;
    if constexpr (Traits::kSkip) {
      float factor = args.skip_factor;
      if (args.skip_factors != nullptr && args.skip_factors[seq] >= 0) factor = args.skip_factors[seq];
      const int32_t length = args.threshold_len == nullptr ? kv_len : args.threshold_len[seq];
      if (factor > 0 && factor < static_cast<float>(length)) {
        out.log2_threshold = log2f(factor / static_cast<float>(length));
      }
    }
    return out;
  }
};

}  // namespace foveal::cuda

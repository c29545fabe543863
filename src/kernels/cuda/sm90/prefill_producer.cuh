#pragma once

#include "kernels/cuda/device/tma.cuh"
#include "kernels/cuda/sm90/prefill_schedule.cuh"

namespace foveal::cuda {

/// One warp: finds the work, and keeps the tiles of Q, K and V coming by bulk tensor copies. In a
/// cluster each CTA copies its share of the keys of every tile into all of them.
template <class Traits>
struct PrefillProducer {
  PrefillShared<Traits>& shared;
  const PrefillArgs& args;
  const CUtensorMap* q_map;
  const CUtensorMap* k_map;
  const CUtensorMap* v_map;
  uint32_t cta_rank;

  static constexpr int kKeysMine = Traits::kKeys / Traits::kCluster;
  static constexpr uint16_t kAll = (1 << Traits::kCluster) - 1;

  int32_t lane = threadIdx.x % 32;
  Ring<Traits::kStages> ring{};
  // Page ids of 64 pages of the sequence, the second half fetched ahead.
  int32_t pages_base = 0;
  int32_t pages_now = 0;
  int32_t pages_next = 0;

  __device__ void run(PrefillSchedule<Traits> schedule) {
    Ring<2> slot;
    uint32_t q_parity = 0;
    for (;;) {
      const PrefillItem item = schedule.next();
      barrier_wait(&shared.item_empty[slot.stage], slot.parity ^ 1);
      if (lane == 0) {
        shared.items[slot.stage] = item;
        barrier_arrive(&shared.item_full[slot.stage]);
      }
      slot.next();
      if (item.seq < 0) return;
      barrier_wait(&shared.q_empty, q_parity ^ 1);
      q_parity ^= 1;
      load_queries(item);
      load_keys(item);
    }
  }

  __device__ void load_queries(const PrefillItem& item) {
    if (lane == 0) {
      barrier_arrive_expect(&shared.q_full, Traits::kQueryBytes * Traits::kWarpgroups);
    }
    __syncwarp();
    if (lane < Traits::kWarpgroups * Traits::kBlocks) {
      const int group = lane / Traits::kBlocks;
      const int block = lane % Traits::kBlocks;
      tma_load_3d(q_map, &shared.q_full, shared.q[group] + block * Traits::kQueryBlockBytes,
                  CacheHint::kEvictFirst, block * 64, item.head, item.first_row + group * 64);
    }
  }

  __device__ void load_keys(const PrefillItem& item) {
    const int32_t kv_head = item.head / (args.num_heads / args.num_kv_heads);
    if (args.page_table != nullptr) start_pages(item);
    for (int32_t tile = item.first_tile; tile < item.end_tile; ++tile) {
      load_tile(item, kv_head, tile, k_map, shared.k[ring.stage], &shared.k_full[ring.stage],
                &shared.k_empty[ring.stage]);
      load_tile(item, kv_head, tile, v_map, shared.v[ring.stage], &shared.v_full[ring.stage],
                &shared.v_empty[ring.stage]);
      ring.next();
    }
  }

  __device__ void load_tile(const PrefillItem& item, int32_t kv_head, int32_t tile,
                            const CUtensorMap* map, uint8_t* smem, Barrier* full, Barrier* empty) {
    const int copies = kKeysMine / args.box_rows * Traits::kBlocks;
    const int box = lane / Traits::kBlocks;
    const int block = lane % Traits::kBlocks;
    const int row = static_cast<int>(cta_rank) * kKeysMine + box * args.box_rows;
    int32_t key = tile * Traits::kKeys + row;
    int32_t page = 0;
    if (args.page_table != nullptr) {
      const int32_t index = min(key, item.kv_len - 1) >> args.page_shift;
      key &= (1 << args.page_shift) - 1;
      page = page_of(item, index, tile);
    } else {
      key += item.key_base;
    }
    if constexpr (Traits::kCluster == 1) {
      barrier_wait(empty, ring.parity ^ 1);
    } else {
      barrier_wait_cluster(empty, ring.parity ^ 1);
    }
    if (lane == 0) barrier_arrive_expect(full, Traits::kTileBytes);
    __syncwarp();
    if (lane < copies) {
      uint8_t* to = smem + block * Traits::kBlockBytes + row * 128;
      if constexpr (Traits::kCluster == 1) {
        tma_load_4d(map, full, to, CacheHint::kEvictLast, block * 64, key, kv_head, page);
      } else {
        tma_multicast_4d(map, full, to, kAll, CacheHint::kEvictLast, block * 64, key, kv_head, page);
      }
    }
  }

  __device__ void start_pages(const PrefillItem& item) {
    pages_base = ((item.first_tile * Traits::kKeys) >> args.page_shift) & ~31;
    pages_now = fetch(item, pages_base + lane);
    pages_next = fetch(item, pages_base + 32 + lane);
  }

  __device__ int32_t fetch(const PrefillItem& item, int32_t index) const {
    const int32_t last = (item.kv_len - 1) >> args.page_shift;
    return args.page_table[item.seq * args.page_table_stride + min(index, last)];
  }

  /// The id of page `index` of the sequence; a tile's pages lie in one run of 32.
  __device__ int32_t page_of(const PrefillItem& item, int32_t index, int32_t tile) {
    const int32_t base = ((tile * Traits::kKeys) >> args.page_shift) & ~31;
    if (base != pages_base) {
      pages_base = base;
      pages_now = pages_next;
      pages_next = fetch(item, base + 32 + lane);
    }
    return __shfl_sync(~0U, pages_now, index & 31);
  }
};

}  // namespace foveal::cuda

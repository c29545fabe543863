#pragma once

#include "kernels/cuda/device/tma.cuh"
#include "kernels/cuda/sm90/prefill_list.cuh"
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
  Ring<Traits::kKeyStages> k_ring{};
  Ring<Traits::kValueStages> v_ring{};
  Ring<Traits::kQueryStages> q_ring{};
  // Page ids of three runs of 32 pages of the sequence: V's run where K is in the next one already,
  // K's, and the one after, fetched ahead.
  int32_t pages_base = 0;  ///< first page of K's run
  int32_t pages_before = 0;
  int32_t pages_now = 0;
  int32_t pages_next = 0;

  __device__ void run(PrefillSchedule<Traits> schedule) {
    Ring<2> slot;
    schedule.take();
    for (;;) {
      PrefillItem item = schedule.next();
      if (item.seq >= 0) schedule.take();
      if constexpr (Traits::kListed) {
        if (item.seq >= 0) item.first = PrefillList<Traits>(args, item).first();
      }
      barrier_wait(&shared.item_empty[slot.stage], slot.parity ^ 1);
      if (lane == 0) {
        shared.items[slot.stage] = item;
        barrier_arrive(&shared.item_full[slot.stage]);
      }
      slot.next();
      if (item.seq < 0) return;
      barrier_wait(&shared.q_empty[q_ring.stage], q_ring.parity ^ 1);
      load_queries(item);
      q_ring.next();
      if constexpr (Traits::kListed) {
        load_listed(item);
      } else if constexpr (Traits::kTiled) {
        copy_tiles(item);
      } else {
        load_keys(item);
      }
    }
  }

  __device__ void load_queries(const PrefillItem& item) {
    if (!elect_lane()) return;
    Barrier* full = &shared.q_full[q_ring.stage];
    barrier_arrive_expect(full, Traits::kQueryBytes * Traits::kWarpgroups);
#pragma unroll
    for (int group = 0; group < Traits::kWarpgroups; ++group) {
#pragma unroll
      for (int block = 0; block < Traits::kQueryBlocks; ++block) {
        tma_load_3d(q_map, full, shared.q[q_ring.stage][group] + block * Traits::kQueryBlockBytes,
                    CacheHint::kEvictFirst, block * Traits::kQueryBlockChannels, item.head,
                    item.first_row + group * 64);
      }
    }
  }

  __device__ void load_keys(const PrefillItem& item) {
    if (args.page_table != nullptr) start_pages(item);
    for (int32_t tile = item.first_tile; tile < item.end_tile; ++tile) {
      load_keys(item, tile, PrefillEntry{});
      if constexpr (!Traits::kValuesApart) load_values(item, tile);
    }
  }

  __device__ void load_listed(const PrefillItem& item) {
    if (args.page_table != nullptr) start_pages(item);
    PrefillList<Traits>(args, item).for_each([&](PrefillEntry entry, PrefillEntry following) {
      load_keys(item, entry.tile(), following);
      load_values(item, entry.tile());
    });
  }

  __device__ void load_keys(const PrefillItem& item, int32_t tile, PrefillEntry following) {
    load_tile<false>(item, tile, following, shared.k[k_ring.stage], &shared.k_full[k_ring.stage],
                     &shared.k_empty[k_ring.stage], k_ring.parity);
    k_ring.next();
  }

  __device__ void load_values(const PrefillItem& item, int32_t tile) {
    load_tile<true>(item, tile, PrefillEntry{}, shared.v[v_ring.stage],
                    &shared.v_full[v_ring.stage], &shared.v_empty[v_ring.stage], v_ring.parity);
    v_ring.next();
  }

  /// By a warp of its own: keys must not wait until values are used, which may be late.
  __device__ void run_values() {
    Ring<2> slot;
    for (;;) {
      barrier_wait(&shared.item_full[slot.stage], slot.parity);
      const PrefillItem item = shared.items[slot.stage];
      __syncwarp();
      if (lane == 0) barrier_arrive(&shared.item_empty[slot.stage]);
      slot.next();
      if (item.seq < 0) return;
      if (args.page_table != nullptr) start_pages(item);
      for (int32_t tile = item.first_tile; tile < item.end_tile; ++tile) load_values(item, tile);
    }
  }

  /// Tiles that lie in memory as they do here: as many bytes apart as they are large.
  __device__ void copy_tiles(const PrefillItem& item) {
    const int32_t kv_head = item.head / args.group;
    int64_t at = kv_head * args.tiles_head_bytes +
                 (item.key_base + int64_t{item.first_tile} * Traits::kKeys) * Traits::kHeadDim;
    for (int32_t left = item.end_tile - item.first_tile; left > 0; --left) {
      copy_tile<1, 0>(args.k_tiles + at, shared.k[k_ring.stage], &shared.k_full[k_ring.stage],
                      &shared.k_empty[k_ring.stage], k_ring.parity);
      k_ring.next();
      if constexpr (Traits::kValueStages > 0) {
        copy_tile<Traits::kValueTileBytes / Traits::kValueBlockBytes, Traits::kValueBlockBytes>(
            args.v_tiles + at, shared.v[v_ring.stage], &shared.v_full[v_ring.stage],
            &shared.v_empty[v_ring.stage], v_ring.parity);
        v_ring.next();
      }
      at += Traits::kTileBytes;
    }
  }

  /// In `kPieces` of equal size, `kStride` apart here: pieces of V lie a little apart.
  template <int kPieces, int kStride>
  __device__ void copy_tile(const uint8_t* from, uint8_t* smem, Barrier* full, Barrier* empty,
                            uint32_t parity) {
    constexpr int kPieceBytes = Traits::kTileBytes / kPieces;
    constexpr int kShare = kPieceBytes / Traits::kCluster;
    barrier_wait(empty, parity ^ 1);
    if (!elect_lane()) return;
    barrier_arrive_expect(full, Traits::kTileBytes);
    const uint32_t mine = cta_rank * kShare;
#pragma unroll 1
    for (int piece = 0; piece < kPieces; ++piece) {
      const uint8_t* source = from + piece * kPieceBytes + mine;
      uint8_t* to = smem + piece * kStride + mine;
      if constexpr (Traits::kCluster == 1) {
        bulk_load(full, to, source, kShare, CacheHint::kEvictLast);
      } else {
        bulk_multicast(full, to, source, kShare, kAll, CacheHint::kEvictLast);
      }
    }
  }

  /// Where 64 channels of a tile are copied from.
  struct Source {
    const CUtensorMap* map;
    int32_t channel;
    int32_t head;
  };
  template <bool kValues>
  __device__ Source source(int block, int32_t kv_head) const {
    const int32_t channel = block * 64;
    if constexpr (Traits::kOwn == Traits::kHeadDim) {
      return {kValues ? v_map : k_map, channel, kv_head};
    } else if constexpr (kValues) {
      return {k_map, Traits::kOwn + channel, kv_head};
    } else {
      if (channel < Traits::kOwn) return {k_map, channel, kv_head};
      return {v_map, channel - Traits::kOwn, 0};
    }
  }

  template <bool kValues>
  __device__ void load_tile(const PrefillItem& item, int32_t tile, PrefillEntry following,
                            uint8_t* smem, Barrier* full, Barrier* empty, uint32_t parity) {
    constexpr int kBlocks = kValues ? Traits::kValueBlocks : Traits::kBlocks;
    const int32_t kv_head = item.head / args.group;
    barrier_wait(empty, parity ^ 1);
    if (elect_lane()) {
      if constexpr (Traits::kListed && !kValues) shared.following[k_ring.stage] = following;
      barrier_arrive_expect(full, kBlocks * Traits::kBlockBytes);
    }
    __syncwarp();
    const int32_t first_row = static_cast<int32_t>(cta_rank) * kKeysMine;
    for (int32_t row = first_row; row < first_row + kKeysMine; row += args.box_rows) {
      int32_t key = tile * Traits::kKeys + row;
      int32_t page = 0;
      if (args.page_table != nullptr) {
        page = page_of(item, min(key, max(item.kv_len - 1, 0)) >> args.page_shift, tile);
        key &= (1 << args.page_shift) - 1;
      } else {
        key += item.key_base;
      }
      if (elect_lane()) {
#pragma unroll
        for (int block = 0; block < kBlocks; ++block) {
          uint8_t* to = smem + block * Traits::kBlockBytes + row * 128;
          const Source from = source<kValues>(block, kv_head);
          if constexpr (Traits::kCluster == 1) {
            tma_load_4d(from.map, full, to, CacheHint::kEvictLast, from.channel, key, from.head,
                        page);
          } else {
            tma_multicast_4d(from.map, full, to, kAll, CacheHint::kEvictLast, from.channel, key,
                             from.head, page);
          }
        }
      }
      __syncwarp();
    }
  }

  __device__ void start_pages(const PrefillItem& item) {
    pages_base = ((item.first_tile * Traits::kKeys) >> args.page_shift) & ~31;
    pages_before = 0;
    pages_now = fetch(item, pages_base + lane);
    pages_next = fetch(item, pages_base + 32 + lane);
  }

  __device__ int32_t fetch(const PrefillItem& item, int32_t index) const {
    const int32_t last = max(item.kv_len - 1, 0) >> args.page_shift;
    return args.page_table[item.seq * args.page_table_stride + min(index, last)];
  }

  /// The id of page `index` of the sequence; a tile's pages lie in one run of 32.
  __device__ int32_t page_of(const PrefillItem& item, int32_t index, int32_t tile) {
    const int32_t base = ((tile * Traits::kKeys) >> args.page_shift) & ~31;
    if (base > pages_base) {
      pages_before = pages_now;
      pages_now = base == pages_base + 32 ? pages_next : fetch(item, base + lane);
      pages_base = base;
      pages_next = fetch(item, base + 32 + lane);
    }
    return __shfl_sync(~0U, base < pages_base ? pages_before : pages_now, index & 31);
  }
};

}  // namespace foveal::cuda

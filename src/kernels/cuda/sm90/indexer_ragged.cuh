#pragma once

#include <cuda.h>

#include <cstdint>

#include "kernels/cuda/device/pdl.cuh"
#include "kernels/cuda/device/tma.cuh"
#include "kernels/cuda/sm90/indexer_epilogue.cuh"
#include "kernels/cuda/sm90/indexer_ragged_schedule.cuh"

namespace foveal::cuda {

template <class Traits>
struct RaggedProducer {
  RaggedShared<Traits>& shared;
  const IndexerArgs& args;
  const CUtensorMap* q_map;
  const CUtensorMap* k_map;
  int lane = threadIdx.x % 32;
  Ring<Traits::kQueryStages> q_ring{};
  Ring<Traits::kStages> k_ring{};

  __device__ void run() {
    RaggedSchedule<Traits> schedule{.args = args};
    for (;;) {
      int32_t end = 0;
      const RaggedItem item = schedule.next(end);
      barrier_wait(&shared.q_empty[q_ring.stage], q_ring.parity ^ 1);
      queries(item, end);
      if (item.seq < 0) return;
      q_ring.next();
      keys(item);
    }
  }

  __device__ void queries(const RaggedItem& item, int32_t end) {
    const int stage = q_ring.stage;
    if (lane < Traits::kTokens) shared.ends[stage][lane] = end;
    if (lane == 0) shared.items[stage] = item;
    __syncwarp();
    if (lane == 0) {
      Barrier* full = &shared.q_full[stage];
      if (item.seq < 0) {
        barrier_arrive(full);
      } else {
        const int32_t columns = item.num_rows * Traits::kHeads;
        barrier_arrive_expect(
            full, static_cast<uint32_t>(Traits::kSets * Traits::kSetBytes + columns * 4));
        const int32_t first = item.first_row * Traits::kHeads;
#pragma unroll
        for (int set = 0; set < Traits::kSets; ++set) {
          tma_load_3d(q_map, full, shared.q[stage][set], CacheHint::kEvictFirst, 0,
                      first + set * Traits::kColumns, 0);
        }
        bulk_load(full, shared.weights[stage],
                  args.weights + int64_t{item.first_row} * Traits::kHeads,
                  static_cast<uint32_t>(columns * 4));
      }
    }
    __syncwarp();
  }

  /// Lane i copies box i of each tile, and looks its page up one tile ahead. Positions are carried
  /// from tile to tile: dividing by the page size each time made this warp the slowest.
  __device__ void keys(const RaggedItem& item) {
    const bool mine = lane < Traits::kKeys / args.box_rows;
    const int32_t* table = args.page_table + item.seq * args.page_table_stride;
    const int32_t last_page = (item.kv_len - 1) / args.page_size;
    const int32_t page_step = Traits::kKeys / args.page_size;
    const int32_t row_step = Traits::kKeys % args.page_size;
    const int32_t key = item.first_key + (mine ? lane * args.box_rows : 0);
    int32_t index = key / args.page_size;  // of the sequence's pages
    int32_t row = key - index * args.page_size;
    int32_t page = table[min(index, last_page)];
    const uint32_t row_bytes = static_cast<uint32_t>(lane * args.box_rows) * 128;
    for (int32_t tile = 0; tile < item.num_tiles; ++tile) {
      const int32_t at = max(page, 0);
      const int32_t at_row = row;
      index += page_step;
      row += row_step;
      if (row >= args.page_size) {
        row -= args.page_size;
        ++index;
      }
      page = table[min(index, last_page)];
      const uint8_t* scales = args.keys + at * args.page_bytes + args.scales_offset + at_row * 4;
      Barrier* full = &shared.k_full[k_ring.stage];
      barrier_wait(&shared.k_empty[k_ring.stage], k_ring.parity ^ 1);
      if (lane == 0) barrier_arrive_expect(full, Traits::kKeyBytes + Traits::kKeys * 4);
      __syncwarp();
      if (mine) {
        tma_load_3d(k_map, full, shared.k[k_ring.stage] + row_bytes, CacheHint::kEvictLast, 0,
                    at_row, at);
        bulk_load(full, shared.scales[k_ring.stage] + lane * args.box_rows, scales,
                  static_cast<uint32_t>(args.box_rows * 4));
      }
      __syncwarp();
      k_ring.next();
    }
    // Rounds begin at stage 0.
    while (k_ring.stage != 0) {
      barrier_wait(&shared.k_empty[k_ring.stage], k_ring.parity ^ 1);
      if (lane == 0) barrier_arrive(&shared.k_full[k_ring.stage]);
      k_ring.next();
    }
  }
};

/// One warpgroup: 64 keys of each tile, with both sets of columns.
template <class Traits>
struct RaggedConsumer {
  RaggedShared<Traits>& shared;
  const IndexerArgs& args;
  int group;  ///< of warpgroups
  Ring<Traits::kQueryStages> q_ring{};
  uint32_t parity = 0;  ///< of the key stages; a round over all of them begins at stage 0

  static constexpr int kMine = kLaneTokens<Traits::kSetTokens>;
  using Products = float[Traits::kColumns / 2];

  /// What a column set's products become scores with.
  struct Set {
    float weights[Traits::kColumns / 4];
    uint64_t query;
    float* out;           ///< of this lane's first token and its key of the next round's first tile
    int32_t left[kMine];  ///< keys from there on that its tokens see
  };

  __device__ void run() {
    for (;;) {
      const int stage = q_ring.stage;
      barrier_wait(&shared.q_full[stage], q_ring.parity);
      if (shared.items[stage].seq < 0) return;
      block(stage);
      __syncwarp();
      if (threadIdx.x % 32 == 0) barrier_arrive(&shared.q_empty[stage]);
      q_ring.next();
    }
  }

  __device__ void begin(Set& set, int stage, int index) const {
    index_weights<Traits::kColumns>(set.weights, shared.weights[stage] + index * Traits::kColumns);
    set.query = k_major_descriptor(smem_address(shared.q[stage][index]));
    const int32_t token = index * Traits::kSetTokens + index_token<Traits::kSetTokens>(0);
    const int32_t key = shared.items[stage].first_key + group * 64 + index_key();
    const int64_t row = shared.items[stage].first_row - args.row_begin + token;
    set.out = args.scores + row * args.row_stride + key;
#pragma unroll
    for (int i = 0; i < kMine; ++i) set.left[i] = shared.ends[stage][token + i] - key;
  }

  /// By `keys`.
  __device__ void move(Set& set, int32_t keys) const {
    set.out += keys;
#pragma unroll
    for (int i = 0; i < kMine; ++i) set.left[i] -= keys;
  }

  __device__ void block(int stage) {
    const int32_t num_tiles = shared.items[stage].num_tiles;
    int32_t tile = 0;
    Set a;
    Set b;
    begin(a, stage, 0);
    begin(b, stage, 1);
    for (; tile + Traits::kStages <= num_tiles; tile += Traits::kStages) {
      round(a, b);
      move(a, Traits::kKeys * Traits::kStages);
      move(b, Traits::kKeys * Traits::kStages);
      parity ^= 1;
    }
    if (tile == num_tiles) return;
    for (int i = 0; i < num_tiles - tile; ++i) {
      Products d;
      Products e;
      barrier_wait(&shared.k_full[i], parity);
      index_products<Traits::kColumns>(d, key_tile(i), a.query);
      index_products<Traits::kColumns>(e, key_tile(i), b.query);
      wgmma_wait<0>();
      finish(d, a, 0, key_scale(i));
      finish(e, b, 0, key_scale(i));
      release(i);
      move(a, Traits::kKeys);
      move(b, Traits::kKeys);
    }
    // Stages that the last round does not fill are handed back as they come.
    for (int i = num_tiles - tile; i < Traits::kStages; ++i) {
      barrier_wait(&shared.k_full[i], parity);
      release(i);
    }
    parity ^= 1;
  }

  /// Stages 0 to kStages - 1, unrolled, so that addresses are constants. One set's sums run beside
  /// the other's products. Each issue is followed by a wait: ptxas would move it behind sums
  /// otherwise. (It also serialises what stays in flight from one turn of a loop to the next,
  /// unless all of it is waited for; so a round ends with nothing in flight.)
  __device__ void round(Set& a, Set& b) {
    Products d;
    Products e;
    barrier_wait(&shared.k_full[0], parity);
    index_products<Traits::kColumns>(d, key_tile(0), a.query);
    index_products<Traits::kColumns>(e, key_tile(0), b.query);
#pragma unroll
    for (int i = 0; i < Traits::kStages; ++i) {
      const float scale = key_scale(i);
      wgmma_wait<1>();
      finish(d, a, i * Traits::kKeys, scale);
      if (i + 1 < Traits::kStages) {
        barrier_wait(&shared.k_full[i + 1], parity);
        index_products<Traits::kColumns>(d, key_tile(i + 1), a.query);
        wgmma_wait<1>();
      } else {
        wgmma_wait<0>();
      }
      release(i);
      finish(e, b, i * Traits::kKeys, scale);
      if (i + 1 < Traits::kStages) {
        index_products<Traits::kColumns>(e, key_tile(i + 1), b.query);
      }
    }
  }

  /// After all lanes' reads of scales, which one lane's arrival speaks for.
  __device__ void release(int stage) {
    __syncwarp();
    if (threadIdx.x % 32 == 0) barrier_arrive(&shared.k_empty[stage]);
  }

  __device__ uint64_t key_tile(int stage) const {
    return k_major_descriptor(smem_address(shared.k[stage]) +
                              static_cast<uint32_t>(group) * 64 * 128);
  }

  __device__ float key_scale(int stage) const {
    return shared.scales[stage][group * 64 + index_key()];
  }

  __device__ void finish(Products& d, const Set& set, int32_t key, float scale) const {
    registers_fence(d);
    float sums[kMine];
    index_sums<Traits::kSetTokens, Traits::kHeads>(d, set.weights, sums);
#pragma unroll
    for (int i = 0; i < kMine; ++i) {
      if (key < set.left[i]) set.out[i * args.row_stride + key] = sums[i] * scale;
    }
  }
};

/// Computes:  scores[r, t] = scale[t] * sum over heads of weights[r, h] * max(0, q[r, h] . k[t]).
/// In/out:    include/foveal/kernels_indexer.h: a ragged batch over paged keys.
/// Units:     keys and rows; a tile is 128 keys by 256 columns, 256 / kHeads rows.
/// Launch:    persistent, an SM each: a producer warp and two warpgroups of 64 keys; shared memory
///            sizeof(RaggedShared). Items are blockIdx.x, blockIdx.x + gridDim.x, ...
/// Needs:     sm_90a; a box of q is 128 rows, of keys box_rows rows of 128 bytes.
/// Numerics:  e4m3 products in float32 as wgmma adds them; weights and sums float32 in a fixed
///            order. Deterministic; a score depends on its row and key alone.
/// Source:    DeepSeek-V3.2 report (lightning indexer); keys on M as DeepGEMM has them; four rows
///            of 64 heads a tile instead of two halve the reads of keys from L2; two sets of
///            products in turn, one in the tensor cores while the other is summed up.
/// Measured:  docs/kernels/cuda_indexer.md
template <class Traits>
__global__ void __launch_bounds__(Traits::kThreads, 1)
    indexer_ragged_kernel(const __grid_constant__ IndexerArgs args,
                          const __grid_constant__ CUtensorMap q_map,
                          const __grid_constant__ CUtensorMap k_map) {
  extern __shared__ __align__(1024) uint8_t raw[];
  auto& shared = *reinterpret_cast<RaggedShared<Traits>*>(raw);
  kernels::cuda::let_next_start();
  if (threadIdx.x == 0) {
    for (int i = 0; i < Traits::kQueryStages; ++i) {
      barrier_init(&shared.q_full[i], 1);
      barrier_init(&shared.q_empty[i], Traits::kGroups * 4);
    }
    for (int i = 0; i < Traits::kStages; ++i) {
      barrier_init(&shared.k_full[i], 1);
      barrier_init(&shared.k_empty[i], Traits::kGroups * 4);
    }
    barrier_init_fence();
    tma_prefetch(&q_map);
    tma_prefetch(&k_map);
  }
  __syncthreads();
  kernels::cuda::wait_for_previous();
  const int warpgroup = __shfl_sync(~0U, static_cast<int>(threadIdx.x) / 128, 0);
  if (warpgroup == 0) {
    registers_shrink<Traits::kProducerRegisters>();
    if (threadIdx.x < 32) {
      RaggedProducer<Traits> producer{
          .shared = shared, .args = args, .q_map = &q_map, .k_map = &k_map};
      producer.run();
    }
  } else {
    registers_grow<Traits::kConsumerRegisters>();
    RaggedConsumer<Traits> consumer{.shared = shared, .args = args, .group = warpgroup - 1};
    consumer.run();
  }
}

}  // namespace foveal::cuda

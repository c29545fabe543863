#pragma once

#include <cuda.h>

#include <cstdint>

#include "kernels/cuda/device/cp_async.cuh"
#include "kernels/cuda/device/pdl.cuh"
#include "kernels/cuda/device/reduce.cuh"
#include "kernels/cuda/device/tma.cuh"
#include "kernels/cuda/sm90/indexer_args.h"
#include "kernels/cuda/sm90/indexer_epilogue.cuh"

namespace foveal::cuda {

/// One row a sequence: bound by reading keys.
template <int kHeads_>
struct PagedTraits {
  static constexpr int kHeads = kHeads_;
  static constexpr int kGroups = 4;  ///< warpgroups, each with tiles of its own
  static constexpr int kKeys = 64;
  static constexpr int kStages = 20;
  static constexpr int kFewStages = 8;
  static_assert(kStages % kGroups == 0 && kFewStages % kGroups == 0);
  static constexpr int kQueryStages = 2;
  static constexpr int kThreads = 128 * kGroups + 32;
  static constexpr int kKeyBytes = kKeys * 128;
  static constexpr int kQueryBytes = kHeads * 128;
};

template <class Traits>
struct PagedShared {
  alignas(1024) uint8_t k[Traits::kStages][Traits::kKeyBytes];
  alignas(1024) uint8_t q[Traits::kQueryStages][Traits::kQueryBytes];
  alignas(16) float scales[Traits::kStages][Traits::kKeys];
  alignas(16) float weights[Traits::kQueryStages][Traits::kHeads];
  Barrier q_full[Traits::kQueryStages], q_empty[Traits::kQueryStages];
  Barrier k_full[Traits::kStages], k_empty[Traits::kStages];
  int32_t first_seq;   ///< of this CTA's run of tiles
  int32_t first_tile;  ///< of that sequence
  int32_t num_tiles;
};

/// A CTA's run of tiles, sequence by sequence. Every role walks it for itself.
struct PagedWalk {
  const IndexerArgs& args;
  int32_t seq;
  int32_t tile;  ///< of the sequence, the next one
  int32_t left;  ///< tiles of the run
  int32_t keys = 0;
  int32_t end_tile = 0;

  /// Stages that a run takes. Deep queues are shared unevenly between processors, which a run of
  /// less than two of them has no time to make up for.
  template <class Traits>
  __device__ static int stages(int32_t tiles) {
    return tiles > Traits::kStages && tiles <= 2 * Traits::kStages ? Traits::kFewStages
                                                                   : Traits::kStages;
  }

  /// Keys that the row of `seq` is scored against.
  __device__ static int32_t scored(const IndexerArgs& args, int32_t seq) {
    const int32_t kv_len = args.kv_len[seq];
    if (seq < args.row_begin || seq >= args.row_begin + args.row_count) return 0;
    if (args.row_end != nullptr) return max(0, min(args.row_end[seq], kv_len));
    return kv_len > args.first_position ? kv_len : 0;
  }

  /// To the run's next sequence with tiles; its tiles are tile to end_tile.
  __device__ bool next() {
    if (left <= 0) return false;
    for (;; ++seq, tile = 0) {
      keys = scored(args, seq);
      end_tile = min((keys + 63) / 64, tile + left);
      if (end_tile > tile) return true;
    }
  }
  __device__ void done() {
    left -= end_tile - tile;
    ++seq;
    tile = 0;
  }
};

/// Begins to bring page tables into L2, each CTA a part, while lengths are still on their way: two
/// waits for memory in place of three before the first keys come.
__device__ inline void prefetch_tables(const IndexerArgs& args) {
  constexpr int32_t kEntries = 32;  // a line
  const int32_t lines = (args.table_pages + kEntries - 1) / kEntries;
  const auto line = static_cast<int32_t>(blockIdx.x * blockDim.x + threadIdx.x);
  if (line >= args.num_seqs * lines) return;
  prefetch_l2(args.page_table + line / lines * args.page_table_stride + line % lines * kEntries);
}

/// All of the first warp: the run of this CTA, an equal share of all tiles.
template <class Traits>
__device__ inline void paged_run(PagedShared<Traits>& shared, const IndexerArgs& args) {
  const int lane = static_cast<int>(threadIdx.x);
  const auto tiles_of = [&](int32_t seq) {
    return seq < args.num_seqs ? (PagedWalk::scored(args, seq) + 63) / 64 : 0;
  };
  const int32_t first = tiles_of(lane);
  int32_t total = first;
  for (int32_t seq = 32 + lane; seq < args.num_seqs + lane; seq += 32) total += tiles_of(seq);
  total = __reduce_add_sync(~0U, total);
  const auto ctas = static_cast<int32_t>(gridDim.x);
  const auto cta = static_cast<int32_t>(blockIdx.x);
  const int32_t share = total / ctas;
  const int32_t more = total - share * ctas;
  const int32_t begin = cta * share + min(cta, more);
  const int32_t count = share + (cta < more ? 1 : 0);
  if (lane == 0) shared.num_tiles = count;
  int32_t before = 0;
  for (int32_t base = 0; count > 0 && before <= begin; base += 32) {
    const int32_t tiles = base == 0 ? first : tiles_of(base + lane);
    const int32_t up_to = kernels::cuda::warp_prefix_sum(tiles, lane);
    const int32_t start = before + up_to - tiles;
    if (start <= begin && begin < start + tiles) {
      shared.first_seq = base + lane;
      shared.first_tile = begin - start;
    }
    before += __shfl_sync(~0U, up_to, 31);
  }
}

template <class Traits>
struct PagedProducer {
  PagedShared<Traits>& shared;
  const IndexerArgs& args;
  const CUtensorMap* q_map;
  const CUtensorMap* k_map;
  int lane = threadIdx.x % 32;
  Ring<Traits::kQueryStages> q_ring{};
  int key_stages = 0;
  int key_stage = 0;
  uint32_t key_parity = 0;

  __device__ void run(PagedWalk walk) {
    key_stages = PagedWalk::stages<Traits>(walk.left);
    for (; walk.next(); walk.done()) {
      query(walk.seq);
      const int32_t boxes = Traits::kKeys / args.box_rows;
      const int32_t tiles_a_round = 32 / boxes;
      for (int32_t tile = walk.tile; tile < walk.end_tile; tile += tiles_a_round) {
        keys(walk, tile, min(tiles_a_round, walk.end_tile - tile), boxes);
      }
    }
  }

  __device__ void query(int32_t row) {
    const int stage = q_ring.stage;
    barrier_wait(&shared.q_empty[stage], q_ring.parity ^ 1);
    if (elect_lane()) {
      barrier_arrive_expect(&shared.q_full[stage], Traits::kQueryBytes + Traits::kHeads * 4);
      tma_load_3d(q_map, &shared.q_full[stage], shared.q[stage], CacheHint::kEvictFirst, 0,
                  row * Traits::kHeads, 0);
      bulk_load(&shared.q_full[stage], shared.weights[stage],
                args.weights + int64_t{row} * Traits::kHeads, Traits::kHeads * 4);
    }
    __syncwarp();
    q_ring.next();
  }

  /// Lane i has box i of the next 32 and copies it when its tile's turn comes.
  __device__ void keys(const PagedWalk& walk, int32_t first_tile, int32_t num_tiles,
                       int32_t boxes) {
    const int32_t* table = args.page_table + walk.seq * args.page_table_stride;
    const int32_t key = first_tile * Traits::kKeys + lane * args.box_rows;
    const int32_t index = key / args.page_size;
    const int32_t row = key - index * args.page_size;
    const int32_t page = max(table[min(index, (walk.keys - 1) / args.page_size)], 0);
    const uint8_t* scales = args.keys + page * args.page_bytes + args.scales_offset + row * 4;
    const int32_t my_tile = lane / boxes;
    const int32_t place = lane % boxes * args.box_rows;
    for (int32_t tile = 0; tile < num_tiles; ++tile) {
      const int stage = key_stage;
      Barrier* full = &shared.k_full[stage];
      barrier_wait(&shared.k_empty[stage], key_parity ^ 1);
      if (lane == 0) barrier_arrive_expect(full, Traits::kKeyBytes + Traits::kKeys * 4);
      __syncwarp();
      if (tile == my_tile) {
        tma_load_3d(k_map, full, shared.k[stage] + place * 128, CacheHint::kEvictFirst, 0, row,
                    page);
        bulk_load(full, shared.scales[stage] + place, scales,
                  static_cast<uint32_t>(args.box_rows * 4));
      }
      __syncwarp();
      if (++key_stage == key_stages) {
        key_stage = 0;
        key_parity ^= 1;
      }
    }
  }
};

/// One warpgroup: every kGroups-th tile of the run.
template <class Traits>
struct PagedConsumer {
  PagedShared<Traits>& shared;
  const IndexerArgs& args;
  int group;
  Ring<Traits::kQueryStages> q_ring{};

  __device__ void run(PagedWalk walk) {
    int32_t mine = group;  // in the run
    int32_t first = 0;     // in the run, of this sequence's tiles
    const int stages = PagedWalk::stages<Traits>(walk.left);
    int stage = group;
    uint32_t parity = 0;
    for (; walk.next(); walk.done()) {
      barrier_wait(&shared.q_full[q_ring.stage], q_ring.parity);
      float w[Traits::kHeads / 4];
      index_weights<Traits::kHeads>(w, shared.weights[q_ring.stage]);
      const uint64_t query = k_major_descriptor(smem_address(shared.q[q_ring.stage]));
      float* out = args.scores + int64_t{walk.seq - args.row_begin} * args.row_stride;
      const int32_t end = first + walk.end_tile - walk.tile;
      for (; mine < end; mine += Traits::kGroups) {
        tile(stage, parity, query, w, (walk.tile + mine - first) * Traits::kKeys, walk.keys, out);
        stage += Traits::kGroups;
        if (stage >= stages) {
          stage -= stages;
          parity ^= 1;
        }
      }
      first = end;
      __syncwarp();
      if (threadIdx.x % 32 == 0) barrier_arrive(&shared.q_empty[q_ring.stage]);
      q_ring.next();
    }
  }

  __device__ void tile(int stage, uint32_t parity, uint64_t query,
                       const float (&w)[Traits::kHeads / 4], int32_t first_key, int32_t keys,
                       float* out) const {
    barrier_wait(&shared.k_full[stage], parity);
    float d[Traits::kHeads / 2];
    index_products<Traits::kHeads>(d, k_major_descriptor(smem_address(shared.k[stage])), query);
    const float scale = shared.scales[stage][index_key()];
    wgmma_wait<0>();
    __syncwarp();  // all lanes have read their scale
    if (threadIdx.x % 32 == 0) barrier_arrive(&shared.k_empty[stage]);
    registers_fence(d);
    float sums[1];
    index_sums<1, Traits::kHeads>(d, w, sums);
    const int32_t key = first_key + index_key();
    if ((threadIdx.x & 2) == 0 && key < keys) out[key] = sums[0] * scale;
  }
};

/// Computes:  scores[s, t] = scale[t] * sum over heads of weights[s, h] * max(0, q[s, h] . k[t]).
/// In/out:    include/foveal/kernels_indexer.h without cu_q: one row a sequence over paged keys.
/// Units:     keys; a tile is 64 keys of one sequence.
/// Launch:    an SM each: kGroups warpgroups, each with its own tiles, and a producer warp; shared
///            memory sizeof(PagedShared). A CTA has an equal run of all sequences' tiles.
/// Needs:     sm_90a; a box of q is kHeads rows, of keys box_rows rows of 128 bytes.
/// Numerics:  those of indexer_ragged_kernel, to the bit.
/// Source:    ours; the orientation is DeepGEMM's.
/// Measured:  docs/kernels/cuda_indexer.md
template <class Traits>
__global__ void __launch_bounds__(Traits::kThreads, 1)
    indexer_paged_kernel(const __grid_constant__ IndexerArgs args,
                         const __grid_constant__ CUtensorMap q_map,
                         const __grid_constant__ CUtensorMap k_map) {
  extern __shared__ __align__(1024) uint8_t raw[];
  auto& shared = *reinterpret_cast<PagedShared<Traits>*>(raw);
  kernels::cuda::let_next_start();
  prefetch_tables(args);
  if (threadIdx.x == 32) {
    for (int i = 0; i < Traits::kQueryStages; ++i) {
      barrier_init(&shared.q_full[i], 1);
      barrier_init(&shared.q_empty[i], Traits::kGroups * 4);
    }
    for (int i = 0; i < Traits::kStages; ++i) {
      barrier_init(&shared.k_full[i], 1);
      barrier_init(&shared.k_empty[i], 4);
    }
    barrier_init_fence();
    tma_prefetch(&q_map);
    tma_prefetch(&k_map);
  }
  kernels::cuda::wait_for_previous();
  if (threadIdx.x < 32) paged_run(shared, args);
  __syncthreads();
  const PagedWalk walk{
      .args = args, .seq = shared.first_seq, .tile = shared.first_tile, .left = shared.num_tiles};
  const int warpgroup = __shfl_sync(~0U, static_cast<int>(threadIdx.x) / 128, 0);
  if (warpgroup == Traits::kGroups) {
    PagedProducer<Traits> producer{
        .shared = shared, .args = args, .q_map = &q_map, .k_map = &k_map};
    producer.run(walk);
  } else {
    PagedConsumer<Traits> consumer{.shared = shared, .args = args, .group = warpgroup};
    consumer.run(walk);
  }
}

}  // namespace foveal::cuda

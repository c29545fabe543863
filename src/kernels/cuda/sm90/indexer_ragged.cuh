#pragma once

#include <cuda.h>

#include <cstdint>

#include "kernels/cuda/device/pdl.cuh"
#include "kernels/cuda/device/tma.cuh"
#include "kernels/cuda/sm90/indexer_args.h"
#include "kernels/cuda/sm90/indexer_epilogue.cuh"

namespace foveal::cuda {

/// What is fixed when a kernel over many rows is compiled.
template <int kHeads_>
struct RaggedTraits {
  static constexpr int kHeads = kHeads_;
  static constexpr int kColumns = 128;  ///< tokens x heads of one product
  static constexpr int kSetTokens = kColumns / kHeads;
  static constexpr int kSets = 2;  ///< products of a tile, one in flight while one is summed up
  static constexpr int kTokens = kSets * kSetTokens;
  static constexpr int kGroups = 2;  ///< warpgroups, 64 keys of a tile each
  static constexpr int kKeys = 128;
  static constexpr int kStages = 4;  ///< a round of the consumers' loop
  static constexpr int kProducerRegisters = 40;
  static constexpr int kConsumerRegisters = 232;
  static constexpr int kQueryStages = 2;
  static constexpr int kThreads = 128 * (1 + kGroups);
  static constexpr int kKeyBytes = kKeys * 128;
  static constexpr int kSetBytes = kColumns * 128;
};

/// One block of rows and one run of keys of their sequence.
struct RaggedItem {
  int32_t seq;        ///< -1: no more work
  int32_t first_row;  ///< of q
  int32_t num_rows;
  int32_t first_key;
  int32_t num_tiles;
  int32_t kv_len;
};

template <class Traits>
struct RaggedShared {
  alignas(1024) uint8_t q[Traits::kQueryStages][Traits::kSets][Traits::kSetBytes];
  alignas(1024) uint8_t k[Traits::kStages][Traits::kKeyBytes];
  alignas(16) float scales[Traits::kStages][Traits::kKeys];
  alignas(16) float weights[Traits::kQueryStages][Traits::kTokens * Traits::kHeads];
  int32_t ends[Traits::kQueryStages][Traits::kTokens];
  RaggedItem items[Traits::kQueryStages];
  Barrier q_full[Traits::kQueryStages], q_empty[Traits::kQueryStages];
  Barrier k_full[Traits::kStages], k_empty[Traits::kStages];
};

/// One warp: which blocks of rows meet which keys, in what order. Of each sequence runs of keys
/// come one after another and in each all blocks of rows, so that the CTAs at work at a time read
/// the same keys, from L2.
template <class Traits>
struct RaggedSchedule {
  const IndexerArgs& args;
  int64_t index = blockIdx.x;
  int lane = threadIdx.x % 32;

  struct Span {
    int32_t first_row, num_rows, position, kv_len;  ///< scored rows of a sequence
    int64_t items;
  };

  __device__ Span span(int32_t seq) const {
    const int32_t begin = args.cu_q == nullptr ? seq : args.cu_q[seq];
    const int32_t end = args.cu_q == nullptr ? seq + 1 : args.cu_q[seq + 1];
    Span s{};
    s.kv_len = args.kv_len[seq];
    const int32_t position = s.kv_len - (end - begin);
    s.first_row = max(begin, args.row_begin);
    if (args.row_end == nullptr)
      s.first_row = max(s.first_row, begin + args.first_position - position);
    s.num_rows = max(0, min(end, args.row_begin + args.row_count) - s.first_row);
    s.position = position + s.first_row - begin;
    const int32_t keys =
        args.row_end == nullptr ? min(s.kv_len, s.position + s.num_rows) : s.kv_len;
    if (s.num_rows > 0 && keys > 0) {
      const int64_t chunks = (keys + args.chunk_keys - 1) / args.chunk_keys;
      s.items = chunks * ((s.num_rows + Traits::kTokens - 1) / Traits::kTokens);
    }
    return s;
  }

  /// All lanes get it. `end`: of the lane's token, the first key that it does not see.
  __device__ RaggedItem next(int32_t& end) {
    for (;;) {
      const RaggedItem item = locate(end);
      index += gridDim.x;
      if (item.seq < 0 || item.num_tiles > 0) return item;
    }
  }

  __device__ RaggedItem locate(int32_t& end) const {
    int64_t before = 0;
    for (int32_t base = 0; base < args.num_seqs; base += 32) {
      const int32_t seq = base + lane;
      const Span s = seq < args.num_seqs ? span(seq) : Span{};
      int64_t up_to = s.items;
#pragma unroll
      for (int step = 1; step < 32; step *= 2) {
        const int64_t other = __shfl_up_sync(~0U, up_to, step);
        if (lane >= step) up_to += other;
      }
      const uint32_t reach = __ballot_sync(~0U, before + up_to > index);
      if (reach != 0) {
        const int owner = __ffs(static_cast<int>(reach)) - 1;
        const int64_t start = before + __shfl_sync(~0U, up_to - s.items, owner);
        return item(base + owner, span(base + owner), index - start, end);
      }
      before += __shfl_sync(~0U, up_to, 31);
    }
    return RaggedItem{.seq = -1};
  }

  __device__ RaggedItem item(int32_t seq, const Span& s, int64_t number, int32_t& end) const {
    const int32_t blocks = (s.num_rows + Traits::kTokens - 1) / Traits::kTokens;
    const auto chunk = static_cast<int32_t>(number / blocks);
    const int32_t first = static_cast<int32_t>(number % blocks) * Traits::kTokens;
    RaggedItem out{};
    out.seq = seq;
    out.first_row = s.first_row + first;
    out.num_rows = min(Traits::kTokens, s.num_rows - first);
    out.kv_len = s.kv_len;
    out.first_key = chunk * args.chunk_keys;
    end = 0;
    if (lane < out.num_rows) {
      end = args.row_end == nullptr ? s.position + first + lane + 1
                                    : args.row_end[out.first_row + lane];
      end = min(end, s.kv_len);
    }
    const int32_t last = __reduce_max_sync(~0U, end);
    const int32_t keys = min(last - out.first_key, args.chunk_keys);
    out.num_tiles = keys > 0 ? (keys + Traits::kKeys - 1) / Traits::kKeys : 0;
    return out;
  }
};

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

#pragma once

#include <cmath>

#include "kernels/cuda/sm90/prefill_softmax.cuh"
#include "kernels/cuda/sm90/prefill_traits.cuh"

namespace foveal::cuda {

/// One warpgroup: 64 query rows. While the tensor cores multiply the next tile's Q K^T and the last
/// one's P V, the other warpgroups compute their exponentials: they take turns in issuing products.
template <class Traits>
struct PrefillConsumer {
  using Element = typename Traits::Element;
  static constexpr int kScores = Traits::kKeys / 2;
  static constexpr int kOut = Traits::kValueDim / 2;
  static constexpr int kSteps = Traits::kKeys / 16;  ///< of a product P V
  /// Steps whose probabilities come before the last output is complete.
  static constexpr int kEarly = Traits::kEarlySteps;
  static constexpr uint32_t kTurnBarrier = 1;  ///< + warpgroup
  static constexpr uint32_t kVoteBarrier = 4;  ///< + 4 * warpgroup + vote % 4

  PrefillShared<Traits>& shared;
  const PrefillArgs& args;
  int group;  ///< warpgroup among the consumers

  int32_t thread = threadIdx.x % 128;
  int32_t lane = threadIdx.x % 32;
  Ring<Traits::kKeyStages> k_ring{};
  Ring<Traits::kValueStages> v_ring{};
  Ring<2> slot{};
  Ring<Traits::kQueryStages> q_ring{};

  float o[Traits::kOutputs];
  float s[kScores];
  uint32_t p[kSteps][4];
  RunningSoftmax softmax;
  float kept_max[2];   ///< Skip Softmax: over the tiles that were kept
  uint32_t votes = 0;  ///< so far
  bool pending;        ///< Skip Softmax: p waits for its product with V
  PrefillItem item;
  unsigned long long counts[4];

  __device__ void run() {
    if (group == Traits::kWarpgroups - 1) give_turn();
    for (;;) {
      barrier_wait(&shared.item_full[slot.stage], slot.parity);
      item = shared.items[slot.stage];
      __syncwarp();
      if (lane == 0) barrier_arrive(&shared.item_empty[slot.stage]);
      slot.next();
      if (item.seq < 0) return;
      compute();
    }
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

  __device__ void compute() {
    softmax = RunningSoftmax{};
#pragma unroll
    for (float& x : o) x = 0;
    kept_max[0] = kept_max[1] = -INFINITY;
    if constexpr (Traits::kCount) counts[0] = counts[1] = counts[2] = counts[3] = 0;

    const int32_t first_position = item.position + group * 64;
    const int32_t last_position = first_position + 63;
    const int32_t full_end = (first_position + 1) / Traits::kKeys;
    const int32_t full_begin =
        args.window > 0
            ? (max(0, last_position - args.window + 1) + Traits::kKeys - 1) / Traits::kKeys
            : 0;

    barrier_wait(&shared.q_full[q_ring.stage], q_ring.parity);
    int32_t tile = item.first_tile;
    first_tile(tile, tile < full_begin || tile >= full_end);
    ++tile;
    pending = true;
    // Masked tiles at the window's edge, whole ones, masked ones at the diagonal.
#pragma unroll 1
    for (int pass = 0; pass < 2; ++pass) {
      const int32_t masked_end = pass == 0 ? min(full_begin, item.end_tile) : item.end_tile;
      const int32_t whole_end = pass == 0 ? min(full_end, item.end_tile) : item.end_tile;
#pragma unroll 1
      for (; tile < masked_end; ++tile) next_tile<true>(tile);
#pragma unroll 1
      for (; tile < whole_end; ++tile) next_tile<false>(tile);
    }
    release_queries();
    if (!Traits::kSkip || pending) {
      last_product();
    } else {
      pass_over_values();
    }
    write();
  }

  __device__ void release_queries() {
    if (lane == 0) barrier_arrive(&shared.q_empty[q_ring.stage]);
    q_ring.next();
  }

  /// s = Q K^T of the stage; left running.
  __device__ void issue_scores() {
    const uint64_t queries = k_major_descriptor(smem_address(shared.q[q_ring.stage][group]));
    const uint64_t keys = k_major_descriptor(smem_address(shared.k[k_ring.stage]));
    registers_fence(s);
    wgmma_fence();
#pragma unroll
    for (int step = 0; step < Traits::kHeadDim / 16; ++step) {
      const int block = step / 4;
      const int inside = step % 4 * 32;
      Wgmma<Element, Traits::kKeys>::ss(
          s, advance(queries, block * Traits::kQueryBlockBytes + inside),
          advance(keys, block * Traits::kBlockBytes + inside), step > 0);
    }
    wgmma_commit();
  }

  /// o += P V of the stage; left running.
  __device__ void issue_output() {
    const uint64_t v =
        swizzled_descriptor(smem_address(shared.v[v_ring.stage]), Traits::kBlockBytes);
    registers_fence(o);
    wgmma_fence();
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      Wgmma<Element, Traits::kValueDim>::rs_n(o, p[step], advance(v, step * 16 * 128), 1);
    }
    wgmma_commit();
  }

  __device__ void mask(int32_t tile) {
    const int32_t row = item.position + group * 64 + thread / 32 * 16 + lane / 4;
    const int32_t key = tile * Traits::kKeys + lane % 4 * 2;
#pragma unroll
    for (int i = 0; i < kScores; ++i) {
      const int32_t behind = row + (i % 4 >= 2 ? 8 : 0) - (key + i / 4 * 8 + i % 2);
      const bool seen = behind >= 0 && (args.window == 0 || behind < args.window);
      if (!seen) s[i] = -INFINITY;
    }
  }

  /// Ends the product that runs beside the softmax. The waits are in branches of their own because
  /// the assembler would move a wait to the start of its block.
  __device__ void finish_output(bool rare) {
    if (rare) {
      wgmma_wait<0>();
      registers_fence(o);
    } else {
      wgmma_wait<0>();
      registers_fence(o);
    }
    hand_back_values();
  }

  __device__ void first_tile(int32_t tile, bool masked) {
    barrier_wait(&shared.k_full[k_ring.stage], k_ring.parity);
    issue_scores();
    wgmma_wait<0>();
    registers_fence(s);
    release(&shared.k_empty[k_ring.stage]);
    k_ring.next();
    if (masked) mask(tile);
    float top[2];
    float alpha[2];
    RunningSoftmax::lane_max(s, top);
    if constexpr (Traits::kCount) count(tile, true);
    if constexpr (Traits::kSkip) note_kept(top);
    softmax.move(TileSum{}, top, args.scale_log2, alpha);
    exponentiate_tile();
  }

  template <bool kMasked>
  __device__ void next_tile(int32_t tile) {
    if constexpr (Traits::kSkip) {
      pending = pending ? voted_step<kMasked>(tile) : step_after_dropped<kMasked>(tile);
    } else {
      step<kMasked>(tile);
    }
  }

  /// Issues the scores of the next tile and beside them the output of the last one.
  __device__ void issue_both() {
    barrier_wait(&shared.k_full[k_ring.stage], k_ring.parity);
    wait_turn();
    issue_scores();
    barrier_wait(&shared.v_full[v_ring.stage], v_ring.parity);
    issue_output();
    give_turn();
  }

  /// No maxima: a tile whose sums stay small under the present reference needs none (a maximum
  /// takes twice as long while products run). The first probabilities come while the last output
  /// is under way, and with it what it reads.
  template <bool kMasked>
  __device__ void step(int32_t tile) {
    issue_both();
    take_scores<1, kMasked>(tile);
    uint32_t early[kEarly][4];
    TileSum sum;
    softmax.template exponentiate<Element, 0, kEarly>(s, args.scale_log2, early, sum);
    const bool early_asks = softmax.warp_asks(sum);
    finish_output(early_asks);
#pragma unroll
    for (int i = 0; i < kEarly; ++i) {
#pragma unroll
      for (int c = 0; c < 4; ++c) p[i][c] = register_move(early[i][c]);
    }
    softmax.template exponentiate<Element, kEarly, kSteps>(s, args.scale_log2, p, sum);
    if (early_asks || softmax.warp_asks(sum)) {
      float top[2];
      RunningSoftmax::lane_max(s, top);
      move_reference(sum, top);
      exponentiate_tile();
    } else {
      softmax.add(sum);
    }
  }

  __device__ void exponentiate_tile() {
    TileSum sum;
    softmax.template exponentiate<Element, 0, kSteps>(s, args.scale_log2, p, sum);
    softmax.add(sum);
  }

  /// While no product runs.
  template <class Tile>
  __device__ void move_reference(const Tile& tile, const float (&top)[2]) {
    float alpha[2];
    softmax.move(tile, top, args.scale_log2, alpha);
#pragma unroll
    for (int i = 0; i < kOut; ++i) o[i] *= alpha[i % 4 / 2];
  }

  /// Waits for the scores, with at most `kPending` products still running.
  template <int kPending, bool kMasked>
  __device__ void take_scores(int32_t tile) {
    wgmma_wait<kPending>();
    registers_fence(s);
    release(&shared.k_empty[k_ring.stage]);
    k_ring.next();
    if constexpr (kMasked) mask(tile);
  }

  __device__ void hand_back_values() {
    release(&shared.v_empty[v_ring.stage]);
    v_ring.next();
  }

  __device__ void last_product() {
    barrier_wait(&shared.v_full[v_ring.stage], v_ring.parity);
    issue_output();
    wgmma_wait<0>();
    registers_fence(o);
    hand_back_values();
  }

  /// Rounds, transposes through shared memory and writes the warp's sixteen rows.
  __device__ void write() {
    softmax.finish();
    const int32_t warp = threadIdx.x / 32 - 4;
    const int32_t first = group * 64 + thread / 32 * 16;
    float factor[2];
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      factor[r] = softmax.sum[r] > 0 ? args.out_scale / softmax.sum[r] : 0.0F;
      const int32_t row = first + lane / 4 + r * 8;
      if (args.lse != nullptr && lane % 4 == 0 && row < item.num_rows) {
        constexpr float kLn2 = 0.6931471805599453F;
        args.lse[int64_t{item.first_row + row} * args.lse_row_stride + item.head] =
            softmax.sum[r] > 0
                ? softmax.reference[r] * args.scale_log2 * kLn2 + logf(softmax.sum[r])
                : -INFINITY;
      }
    }
    const uint32_t staging = smem_address(shared.staging[warp]);
    const int32_t to_row = lane % 16;
    using Type = typename Element::Type;
    auto* out = static_cast<Type*>(args.out) + int64_t{item.first_row} * args.out_row_stride +
                int64_t{item.head} * args.out_head_stride;
#pragma unroll
    for (int block = 0; block < Traits::kValueBlocks; ++block) {
      constexpr int kPairs = 4;  // of columns of 8
#pragma unroll
      for (int pair = 0; pair < kPairs; ++pair) {
        const int at = block * 32 + pair * 8;
        if (at >= kOut) break;
        const uint32_t chunk = pair * 2 + lane / 16;
        store_matrix_x4(staging + to_row * 128 + ((chunk ^ (to_row % 8)) * 16),
                        pack<Element>(o[at] * factor[0], o[at + 1] * factor[0]),
                        pack<Element>(o[at + 2] * factor[1], o[at + 3] * factor[1]),
                        pack<Element>(o[at + 4] * factor[0], o[at + 5] * factor[0]),
                        pack<Element>(o[at + 6] * factor[1], o[at + 7] * factor[1]));
      }
      __syncwarp();
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int32_t row = i * 4 + lane / 8;
        const int32_t chunk = lane % 8;
        const uint4 value = *reinterpret_cast<const uint4*>(shared.staging[warp] + row * 128 +
                                                            ((chunk ^ (row % 8)) * 16));
        const int32_t channel = block * 64 + chunk * 8;
        if (first + row < item.num_rows && channel < Traits::kValueDim) {
          *reinterpret_cast<uint4*>(out + int64_t{first + row} * args.out_row_stride + channel) =
              value;
        }
      }
      __syncwarp();
    }
    if constexpr (Traits::kCount) flush_counts();
  }

  // --- Skip Softmax ---

  __device__ void note_kept(float (&top)[2]) {
    RunningSoftmax::row_max(top);
    kept_max[0] = fmaxf(kept_max[0], top[0]);
    kept_max[1] = fmaxf(kept_max[1], top[1]);
  }

  /// Whether no row of the warpgroup needs the tile. Rows that do not exist, and rows that see
  /// nothing of it, agree (a difference of infinities is not a number, and not >= either); a row's
  /// lanes need not share a maximum, for it needs the tile when one of them does. A warp
  /// that needs the tile says so and goes on; only one that does not waits for the others. So a
  /// warp may be two votes ahead (further, its K stages are not handed back): votes take turns over
  /// four barriers and words, each of which holds the number of the last vote with a yes.
  __device__ bool vote(const float (&top)[2]) {
    const int32_t row = group * 64 + thread / 32 * 16 + lane / 4;
    bool needs = false;
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      needs = needs || ((top[r] - kept_max[r]) * args.scale_log2 >= item.log2_threshold &&
                        row + r * 8 < item.num_rows);
    }
    const uint32_t turn = ++votes % 4;
    volatile uint32_t* kept = &shared.kept[group][turn];
    const uint32_t barrier = kVoteBarrier + group * 4 + turn;
    if (__any_sync(~0U, needs)) {
      if (lane == 0) *kept = votes;
      __syncwarp();
      named_arrive(barrier, 128);
      return false;
    }
    named_sync(barrier, 128);
    return __all_sync(~0U, *kept != votes);
  }

  __device__ bool drops(int32_t tile, const float (&top)[2]) {
    const bool drop = vote(top);
    if constexpr (Traits::kCount) count(tile, !drop);
    return drop;
  }

  /// Passes over the V of a dropped tile: a step later, when its copy has come for certain.
  __device__ void pass_over_values() {
    barrier_wait(&shared.v_full[v_ring.stage], v_ring.parity);
    hand_back_values();
  }

  /// The tile's scores beside the output of the last one, which was kept. False when the tile was
  /// dropped: then nothing waits for a V.
  template <bool kMasked>
  __device__ bool voted_step(int32_t tile) {
    issue_both();
    take_scores<1, kMasked>(tile);
    float top[2];
    RunningSoftmax::lane_max(s, top);
    const bool drop = drops(tile, top);
    finish_output(drop);
    if (drop) return false;
    keep(top);
    return true;
  }

  /// As voted_step, when the tile before was dropped.
  template <bool kMasked>
  __device__ bool step_after_dropped(int32_t tile) {
    barrier_wait(&shared.k_full[k_ring.stage], k_ring.parity);
    wait_turn();
    issue_scores();
    give_turn();
    pass_over_values();
    take_scores<0, kMasked>(tile);
    float top[2];
    RunningSoftmax::lane_max(s, top);
    if (drops(tile, top)) return false;
    keep(top);
    return true;
  }

  __device__ void keep(float (&top)[2]) {
    if (softmax.warp_asks(top)) move_reference(top, top);
    exponentiate_tile();
    note_kept(top);
  }

  // --- counting ---

  /// Pairs of the warpgroup's rows with the tile's keys, and what became of them.
  __device__ void count(int32_t tile, bool used) {
    if (thread != 0) return;
    const int32_t rows = min(64, item.num_rows - group * 64);
    const bool whole =
        item.position + group * 64 >= (tile + 1) * Traits::kKeys - 1 && args.window == 0;
    unsigned long long pairs = whole ? max(rows, 0) * Traits::kKeys : 0;
    for (int32_t row = 0; row < rows && !whole; ++row) {
      const int32_t position = item.position + group * 64 + row;
      const int32_t low = args.window > 0 ? max(0, position - args.window + 1) : 0;
      const int32_t begin = max(low, tile * Traits::kKeys);
      const int32_t end = min(position + 1, (tile + 1) * Traits::kKeys);
      if (end > begin) pairs += static_cast<unsigned>(end - begin);
    }
    if (pairs == 0) return;
    counts[0] += pairs;
    counts[2] += 1;
    if (used) {
      counts[1] += pairs;
    } else {
      counts[3] += 1;
    }
  }

  __device__ void flush_counts() {
    if (thread != 0 || args.counters == nullptr) return;
    for (int i = 0; i < 4; ++i) atomicAdd(args.counters + int64_t{item.seq} * 4 + i, counts[i]);
  }
};

}  // namespace foveal::cuda

#pragma once

#include "kernels/cuda/sm90/prefill_warpgroup.cuh"

namespace foveal::cuda {

/// Skip Softmax: a warpgroup's votes on tiles, and what it counts of them.
template <class Traits>
struct PrefillVotes : PrefillWarpgroup<Traits> {
  using Base = PrefillWarpgroup<Traits>;
  using Base::args, Base::group, Base::item, Base::lane, Base::shared, Base::thread, Base::v_ring;
  using Base::Base;
  static constexpr uint32_t kVoteBarrier = 4;  ///< + 4 * warpgroup + vote % 4

  float kept_max[2];   ///< over the tiles that were kept
  uint32_t votes = 0;  ///< so far

  __device__ void begin_votes() {
    kept_max[0] = kept_max[1] = -INFINITY;
    if (Traits::kCount && thread == 0) {
      for (auto& count : shared.counts[group]) count = 0;
    }
  }

  __device__ void note_kept(float (&top)[2]) {
    RunningSoftmax::row_max(top);
    kept_max[0] = fmaxf(kept_max[0], top[0]);
    kept_max[1] = fmaxf(kept_max[1], top[1]);
  }

  /// This lane's largest scores, as far as they matter: exact, or below what a row would notice.
  /// Bits of floats order as integers do while one of them is not negative, and this machine takes
  /// the largest of three integers in one instruction: half of those that floats need. Where all
  /// are negative the integers' order is the opposite one, so `greatest` is the smallest score, and
  /// `least` of them as unsigned numbers the largest; it is asked only where a row wants scores
  /// below zero.
  __device__ void lane_tops(const float (&s)[Base::kScores], float (&top)[2]) const {
    int32_t greatest[2];
    fold_scores(s, greatest, [](int32_t a, int32_t b, int32_t c) { return __vimax3_s32(a, b, c); });
    bool below = false;
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      top[r] = __int_as_float(greatest[r]);
      below = below || (greatest[r] < 0 && wants(0.0F, r));
    }
    if (!__any_sync(~0U, below)) return;
    uint32_t least[2];
    fold_scores(s, least, [](uint32_t a, uint32_t b, uint32_t c) { return __vimin3_u32(a, b, c); });
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      if (greatest[r] < 0) top[r] = __uint_as_float(least[r]);
    }
  }

  /// Over a row's scores, in two chains of three operands a step.
  template <class Bits, class Fold>
  __device__ static void fold_scores(const float (&s)[Base::kScores], Bits (&out)[2], Fold fold) {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const auto bits = [&](int i) { return static_cast<Bits>(__float_as_uint(s[i + 2 * r])); };
      Bits chain[2] = {bits(0), bits(1)};
#pragma unroll
      for (int i = 4; i < Base::kScores; i += 4) {
        chain[i / 4 % 2] = fold(chain[i / 4 % 2], bits(i), bits(i + 1));
      }
      out[r] = fold(chain[0], chain[1], chain[1]);
    }
  }

  __device__ bool wants(float score, int r) const {
    return (score - kept_max[r]) * args.scale_log2 >= item.log2_threshold;
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
      needs = needs || (wants(top[r], r) && row + r * 8 < item.num_rows);
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
    this->hand_back_values();
  }

  /// Pairs of the warpgroup's rows with the tile's keys, and what became of them.
  __device__ void count(int32_t tile, bool used) {
    if (thread != 0) return;
    const int32_t rows = min(64, item.num_rows - group * 64);
    const bool whole =
        item.position + group * 64 >= (tile + 1) * Traits::kKeys - 1 && args.window == 0;
    unsigned long long pairs = whole ? max(rows, 0) * Traits::kKeys : 0;
    for (int32_t row = 0; row < rows && !whole; ++row) {
      pairs += static_cast<unsigned>(this->keys_seen(row, tile));
    }
    if (pairs == 0) return;
    unsigned long long* counts = shared.counts[group];
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
    for (int i = 0; i < 4; ++i) {
      atomicAdd(args.counters + int64_t{item.seq} * 4 + i, shared.counts[group][i]);
    }
  }
};

}  // namespace foveal::cuda

#pragma once

#include <climits>
#include <cmath>

#include "kernels/cuda/device/int8.cuh"
#include "kernels/cuda/device/vec.cuh"
#include "kernels/cuda/device/wgmma.cuh"
#include "kernels/cuda/sm90/prefill_kernel.cuh"
#include "kernels/cuda/sm90/prefill_vote_traits.cuh"

namespace foveal::cuda {

/// One warpgroup's votes: integer scores of a tile, their largest of each row, and a bit a warp,
/// joined every 32 tiles. Products of one half of the keys are under way while the largest scores
/// of the other half are found, so the tensor cores have work whatever the other warpgroups do.
/// Beside them every instruction counts: a lane only leaves its largest scores in shared memory,
/// and every eight tiles the warp votes on all of them at once.
template <class Traits>
struct VoteConsumer : PrefillUnit<Traits> {
  using Base = PrefillUnit<Traits>;
  using Base::args, Base::group, Base::item, Base::k_ring, Base::lane, Base::q_ring, Base::shared,
      Base::thread;
  using Base::Base;
  using Tiles = typename Base::Tiles;
  static constexpr int kScores = Traits::kKeys / 4;  ///< of half a tile
  static constexpr int kSteps = Traits::kHeadDim / 32;
  static constexpr int32_t kUnseen = INT32_MIN;
  static constexpr uint32_t kJoinBarrier = 1 + Traits::kWarpgroups;  ///< + warpgroup

  static constexpr int32_t kBatch = Traits::kVoteBatch;
  static_assert(kBatch % 2 == 0 && 32 % kBatch == 0);

  using Scores = int32_t[kScores];
  Scores s[2];
  uint32_t q[kSteps][4];
  // Of row lane % 16 of the warp's, while it votes:
  float row_scale;       ///< of its integers, in the log2 domain
  float running;         ///< its largest score in the tiles so far
  uint32_t bits;         ///< of this warp and word
  int32_t joined = 0;    ///< words so far
  int32_t counted = -1;  ///< the sequence of shared.counts
  float scales[2];       ///< of keys: lane i's tile i of this word and of the next

  __device__ void run() {
    while (this->take_item()) compute();
    flush_counts();
  }

  __device__ void compute() {
    const Tiles seen = seen_tiles();
    const Tiles whole = this->whole_tiles();
    count_item(seen);
    take_queries();
    running = -INFINITY;
    bits = 0;
    scales[0] = load_scale(seen.begin / 32);
    scales[1] = load_scale(seen.begin / 32 + 1);
    int32_t tile = item.first_tile;
    for (; tile < seen.begin; ++tile) pass_over();
#pragma unroll 1
    while (tile < seen.end) {
      if (tile % kBatch == 0 && tile > seen.begin) cast(tile - kBatch, seen, whole);
      if (tile % kBatch == 0 && tile >= whole.begin && tile + kBatch <= whole.end) {
        take_tiles<kBatch, false>(tile);
        tile += kBatch;
      } else {
        take_tiles<1, true>(tile);
        ++tile;
      }
    }
    if (seen.begin < seen.end) {
      cast((tile - 1) / kBatch * kBatch, seen, whole);
      if ((tile - 1) / kBatch % (32 / kBatch) != 32 / kBatch - 1) join(tile - 1, seen, whole);
    }
    for (; tile < item.end_tile; ++tile) pass_over();
  }

  __device__ int32_t num_rows() const { return min(64, item.num_rows - group * 64); }

  /// Of which some row of the unit sees a key.
  __device__ Tiles seen_tiles() const {
    const int32_t position = item.position + group * 64;
    const int32_t end_key = num_rows() > 0 ? position + num_rows() : 0;
    const int32_t end = (max(end_key, 0) + Traits::kKeys - 1) / Traits::kKeys;
    const int32_t low = args.window > 0 ? max(0, position - args.window + 1) : 0;
    return {min(low / Traits::kKeys, end), end};
  }

  __device__ void pass_over() {
    barrier_wait(&shared.k_full[k_ring.stage], k_ring.parity);
    this->hand_back_keys();
  }

  // --- queries ---

  /// Rounds the unit's queries, a scale a row, to what the products take from registers.
  __device__ void take_queries() {
    this->wait_queries();
    uint2 raw[2][kSteps * 2];
#pragma unroll
    for (int r = 0; r < 2; ++r) {
#pragma unroll
      for (int half = 0; half < kSteps * 2; ++half) raw[r][half] = query_channels(r, half);
    }
    __syncwarp();  // all lanes have theirs
    this->release_queries();
    float scale[2];
#pragma unroll
    for (int r = 0; r < 2; ++r) scale[r] = round_row(raw[r], r);
    const float low = __shfl_sync(~0U, scale[0], lane % 8 * 4);
    const float high = __shfl_sync(~0U, scale[1], lane % 8 * 4);
    row_scale = __fmul_rn(lane % 16 < 8 ? low : high, args.scale_log2);
  }

  /// Four channels: those of 16 * half that are this lane's.
  __device__ uint2 query_channels(int r, int half) const {
    const int32_t row = thread / 32 * 16 + lane / 4 + r * 8;
    const int32_t byte = half * 32 + lane % 4 * 8;
    const uint8_t* block =
        shared.q[q_ring.stage][group] + byte / 128 * Traits::kQueryBlockBytes + row * 128;
    return *reinterpret_cast<const uint2*>(block + ((byte % 128 / 16 ^ row % 8) * 16) + byte % 16);
  }

  __device__ static float2 unpack(uint32_t pair) {
    return kernels::cuda::unpack2(pair, typename Traits::Element::Type());
  }

  /// Returns what the row's integers count.
  __device__ float round_row(const uint2 (&raw)[kSteps * 2], int r) {
    float top = 0;
#pragma unroll
    for (const uint2& four : raw) {
      const float2 low = unpack(four.x);
      const float2 high = unpack(four.y);
      top =
          fmaxf(fmaxf(top, fmaxf(fabsf(low.x), fabsf(low.y))), fmaxf(fabsf(high.x), fabsf(high.y)));
    }
    top = fmaxf(top, __shfl_xor_sync(~0U, top, 1));
    top = fmaxf(top, __shfl_xor_sync(~0U, top, 2));
    const Int8Scale scale(top);
#pragma unroll
    for (int half = 0; half < kSteps * 2; ++half) {
      const float2 low = unpack(raw[half].x);
      const float2 high = unpack(raw[half].y);
      q[half / 2][half % 2 * 2 + r] = scale.round(low.x, low.y, high.x, high.y);
    }
    return scale.unit;
  }

  // --- tiles ---

  /// Of one half of a stage's keys; left running.
  __device__ void issue_scores(int at, int half) {
    // By a shuffle, as the warpgroup's number: addresses are then computed beside all else.
    const int stage = __shfl_sync(~0U, at, 0);
    const uint64_t keys = narrow_descriptor(
        smem_address(shared.k[stage]) + half * (Traits::kTileBytes / 2), 8 * Traits::kHeadDim);
    registers_fence(s[half]);
    wgmma_fence();
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      Wgmma<S8, Traits::kKeys / 2>::rs(s[half], q[step], advance(keys, step * 8 * 32), step > 0);
    }
    wgmma_commit();
  }

  /// Leaves the largest scores of kTiles tiles. Nothing stays under way from one call to the next:
  /// the assembler would end it there.
  template <int kTiles, bool kMasked>
  __device__ void take_tiles(int32_t tile) {
    auto next = k_ring;
    barrier_wait(&shared.k_full[next.stage], next.parity);
    issue_scores(next.stage, 0);
    issue_scores(next.stage, 1);
#pragma unroll
    for (int i = 0; i < kTiles; ++i) {
      int32_t top[2];
      wgmma_wait<1>();
      take_half<kMasked>(0, tile + i, top);
      next.next();
      if (i + 1 < kTiles) {
        barrier_wait(&shared.k_full[next.stage], next.parity);
        issue_scores(next.stage, 0);
        wgmma_wait<1>();
      } else {
        wgmma_wait<0>();
      }
      int32_t other[2];
      registers_fence(s[1]);
      this->hand_back_keys();
      take_half<kMasked>(1, tile + i, other);
      if (i + 1 < kTiles) issue_scores(next.stage, 1);
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        tops()[(tile + i) % kBatch * 64 + r * 32 + lane] = max(top[r], other[r]);
      }
    }
  }

  /// The largest of this lane's columns of half a tile: chains of three operands a step.
  template <bool kMasked>
  __device__ void take_half(int half, int32_t tile, int32_t (&top)[2]) {
    registers_fence(s[half]);
    if constexpr (kMasked) mask(s[half], tile * Traits::kKeys + half * (Traits::kKeys / 2));
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const auto& x = s[half];
      int32_t chain[2] = {x[2 * r], x[2 * r + 1]};
#pragma unroll
      for (int i = 4; i < kScores; i += 4) {
        chain[i / 4 % 2] = __vimax3_s32(chain[i / 4 % 2], x[i + 2 * r], x[i + 2 * r + 1]);
      }
      top[r] = max(chain[0], chain[1]);
    }
  }

  __device__ void mask(Scores& x, int32_t first_key) const {
    const int32_t row = item.position + group * 64 + thread / 32 * 16 + lane / 4;
    const int32_t key = first_key + lane % 4 * 2;
#pragma unroll
    for (int i = 0; i < kScores; ++i) {
      const int32_t behind = row + (i % 4 >= 2 ? 8 : 0) - (key + i / 4 * 8 + i % 2);
      const bool visible = behind >= 0 && (args.window == 0 || behind < args.window);
      if (!visible) x[i] = kUnseen;
    }
  }

  // --- votes ---

  /// [tile of a batch][row of the warp][the row's lanes]
  __device__ int32_t* tops() const { return shared.tops[group * 4 + thread / 32]; }

  /// The warp's votes on kBatch tiles: lanes 0 to 15 on the first half of them, one row each, the
  /// others on the second. A row that sees nothing of a tile has no vote; one whose scores are not
  /// numbers keeps it.
  __device__ void cast(int32_t first, const Tiles& seen, const Tiles& whole) {
    constexpr int kHalf = kBatch / 2;
    const int32_t mine = first + lane / 16 * kHalf;
    const bool exists = thread / 32 * 16 + lane % 16 < num_rows();
    __syncwarp();
    float score[kHalf];
    float best = -INFINITY;
#pragma unroll
    for (int i = 0; i < kHalf; ++i) {
      const int4 four =
          reinterpret_cast<const int4*>(tops())[(lane / 16 * kHalf + i) * 16 + lane % 16];
      const int32_t top = max(__vimax3_s32(four.x, four.y, four.z), four.w);
      const float scale = __shfl_sync(~0U, scales[0], (mine + i) % 32);
      const bool votes = exists && top != kUnseen && seen.contain(mine + i);
      score[i] = __fmul_rn(__int2float_rn(top), __fmul_rn(row_scale, scale));
      if (!votes) score[i] = -INFINITY;
      best = fmaxf(best, score[i]);
    }
    __syncwarp();
    const float other = __shfl_xor_sync(~0U, best, 16);
    float before = lane < 16 ? running : fmaxf(running, other);
    running = fmaxf(running, fmaxf(best, other));
    const float threshold = item.log2_threshold;
#pragma unroll
    for (int i = 0; i < kHalf; ++i) {
      const bool needs = score[i] != -INFINITY && !(score[i] - before < threshold);
      before = fmaxf(before, score[i]);
      const uint32_t voters = __ballot_sync(~0U, needs);
      if ((voters & 0xFFFF) != 0) bits |= 1U << (first + i) % 32;
      if ((voters >> 16) != 0) bits |= 1U << (first + kHalf + i) % 32;
    }
    if (first % 32 == 32 - kBatch) join(first, seen, whole);
  }

  // --- words ---

  __device__ float load_scale(int32_t word) const {
    const int32_t tile = word * 32 + lane;
    if (tile >= item.end_tile) return 0;
    const int64_t head_tiles = args.tiles_head_bytes / Traits::kTileBytes;
    const int32_t kv_head = item.head / args.group;
    return args.key_scales[kv_head * head_tiles + item.key_base / Traits::kKeys + tile];
  }

  /// The word of `tile` is complete: the four warps' bits become one, in device memory.
  __device__ void join(int32_t tile, const Tiles& seen, const Tiles& whole) {
    uint32_t* set = &shared.kept[group][joined++ % 2 * 4];
    if (lane == 0) set[thread / 32] = bits;
    bits = 0;
    scales[0] = scales[1];
    scales[1] = load_scale(tile / 32 + 2);
    named_sync(kJoinBarrier + group, 128);
    if (thread >= 32) return;
    const uint32_t kept = set[0] | set[1] | set[2] | set[3];
    if (lane == 0) {
      const int32_t q_begin = args.cu_q[item.seq];
      const int64_t block =
          kept_first_block(q_begin, item.seq) + (item.first_row - q_begin) / kKeptRows + group;
      kept_unit(args.kept, block, args.num_heads, item.head)[tile / 32] = kept;
    }
    if (args.counters != nullptr) count_word(tile / 32, kept, seen, whole);
  }

  // --- counters: by the first warp; one sequence's in shared memory ---

  __device__ void flush_counts() {
    if (thread != 0 || args.counters == nullptr || counted < 0) return;
    for (int i = 0; i < 4; ++i) {
      atomicAdd(args.counters + int64_t{counted} * 4 + i, shared.counts[group][i]);
    }
  }

  /// All that the unit sees as used; what is dropped is taken off word by word.
  __device__ void count_item(const Tiles& seen) {
    if (thread != 0 || args.counters == nullptr) return;
    unsigned long long* counts = shared.counts[group];
    if (item.seq != counted) {
      flush_counts();
      counted = item.seq;
      for (int i = 0; i < 4; ++i) counts[i] = 0;
    }
    const unsigned long long pairs = unit_pairs();
    counts[0] += pairs;
    counts[1] += pairs;
    counts[2] += static_cast<uint32_t>(seen.end - seen.begin);
  }

  /// Rows see one key more each, from the first that sees any up to the window's.
  __device__ unsigned long long unit_pairs() const {
    const int32_t rows = max(num_rows(), 0);
    const int64_t position = item.position + group * 64;
    const int64_t most = args.window > 0 ? args.window : INT32_MAX;
    const int64_t first = min(max(-position, int64_t{0}), int64_t{rows});
    const int64_t level = min(max(most - position, first), int64_t{rows});
    const int64_t ramp = level - first;
    return static_cast<unsigned long long>(ramp * (position + first + 1) + ramp * (ramp - 1) / 2 +
                                           (rows - level) * most);
  }

  /// Tiles of the range, as bits of a word.
  __device__ static uint32_t bits_of(const Tiles& range, int32_t word) {
    const int32_t begin = min(max(range.begin - word * 32, 0), 32);
    const int32_t end = min(max(range.end - word * 32, begin), 32);
    return static_cast<uint32_t>((uint64_t{1} << end) - (uint64_t{1} << begin));
  }

  __device__ void count_word(int32_t word, uint32_t kept, const Tiles& seen, const Tiles& whole) {
    const uint32_t dropped = bits_of(seen, word) & ~kept;
    const uint32_t inner = dropped & bits_of(whole, word);
    uint32_t edge_pairs = 0;
    for (uint32_t edge = dropped & ~inner; edge != 0; edge &= edge - 1) {
      edge_pairs += pairs_of(word * 32 + __ffs(static_cast<int>(edge)) - 1);
    }
    if (lane != 0) return;
    unsigned long long* counts = shared.counts[group];
    counts[1] -= edge_pairs + static_cast<uint32_t>(__popc(inner) * num_rows() * Traits::kKeys);
    counts[3] += static_cast<uint32_t>(__popc(dropped));
  }

  /// Over all rows, in every lane.
  __device__ uint32_t pairs_of(int32_t tile) const {
    uint32_t pairs = 0;
    for (int32_t row = lane; row < num_rows(); row += 32) {
      pairs += static_cast<uint32_t>(this->keys_seen(row, tile));
    }
    return __reduce_add_sync(~0U, pairs);
  }
};

template <class Element, int kHeadDim>
struct PrefillRoles<VoteTraits<Element, kHeadDim>> {
  using Traits = VoteTraits<Element, kHeadDim>;
  __device__ static void prepare(PrefillShared<Traits>& /*shared*/) {}
  __device__ static void consume(PrefillShared<Traits>& shared, const PrefillArgs& args,
                                 int group) {
    VoteConsumer<Traits>(shared, args, group).run();
  }
};

}  // namespace foveal::cuda

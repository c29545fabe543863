#pragma once

#include "kernels/cuda/device/mbarrier.cuh"
#include "kernels/cuda/sm90/decode_counters.cuh"
#include "kernels/cuda/sm90/decode_merge.cuh"
#include "kernels/cuda/sm90/decode_runs.cuh"

// Decode with Skip Softmax. The CTA goes in steps of one unit a warp: all score their keys, meet at
// one barrier, and every warp then computes the same votes from the tiles' maxima, in ascending
// order of the tiles, so that a run decides as a sequential loop over the segment would. The
// segment's first step scores the row's first and last keys, whose maximum the votes start from
// (seed_unit). V of a kept unit is requested then and used kStages steps later; V of a dropped one
// is never requested.

namespace foveal::kernels::cuda {

/// K of a warp's units, kStages steps ahead, and where their V lies. A step waits once, then fills
/// once for K, and commits once more for V: the groups are counted.
template <class Tile>
class KeyRing {
  static constexpr int kStages = Tile::kShape.stages();
  static constexpr int kUnitBytes = Tile::kShape.unit_bytes();

 public:
  __device__ KeyRing(char* ring, char* places)
      : ring_(ring), places_(reinterpret_cast<const char* volatile*>(places)) {}

  __device__ const char* wait() const {
    foveal::cuda::cp_async_wait<2 * kStages - 1>();
    __syncwarp();
    return ring_ + slot_ * kUnitBytes;
  }
  /// Rows of V of the unit last waited for.
  __device__ const char* v_rows() const { return places_[slot_]; }
  /// The copy of a later unit takes the place of the one last waited for (or fills the ring at
  /// first).
  __device__ void fill(const DecodeArgs& args, bool own, const UnitRows& rows, int32_t keys,
                       int lane) {
    __syncwarp();
    if (own) {
      Tile::template copy_rows<true>(foveal::cuda::smem_address(ring_) + slot_ * kUnitBytes, rows.k,
                                     args.k_token_bytes, keys, lane);
      if (lane == 0) places_[slot_] = rows.v;
    }
    foveal::cuda::cp_async_commit();
    slot_ = slot_ + 1 == kStages ? 0 : slot_ + 1;
  }

 private:
  char* ring_;
  const char* volatile* places_;
  int slot_ = 0;
};

/// Visible keys of the segment in the tile that begins at `tile_unit`.
__device__ inline int32_t visible_keys(const Segment& segment, int32_t tile_unit) {
  constexpr int32_t kUnits = kDecodeVoteKeys / kDecodeUnit;
  const int32_t first = max(tile_unit * kDecodeUnit, segment.first_key);
  const int32_t end = min(min(tile_unit + kUnits, segment.end_unit) * kDecodeUnit, segment.kv_len);
  return max(end - first, 0);
}

/// Votes of a CTA's steps. Lane i of every warp follows query head i.
template <class Tile>
class VoteBox {
  static constexpr int kWarps = Tile::kShape.warps();
  static constexpr int kHeads = 8 * Tile::kShape.head_blocks;
  static constexpr int kUnitsATile = kDecodeVoteKeys / kDecodeUnit;

 public:
  static constexpr int kTiles = kWarps / kUnitsATile;  ///< a step

  __device__ explicit VoteBox(char* shared) : maxima_(reinterpret_cast<float*>(shared)) {}

  __device__ void start(float log2_threshold) { log2_threshold_ = log2_threshold; }
  __device__ void put(const float (&scores)[Tile::kShape.head_blocks][4], int warp, int lane) {
    parity_ ^= 1;
#pragma unroll
    for (int block = 0; block < Tile::kShape.head_blocks; ++block) {
      const float a = Tile::column_max(scores[block], 0);
      const float b = Tile::column_max(scores[block], 1);
      if (lane < 4) {
        *reinterpret_cast<float2*>(maxima_ + (parity_ * kWarps + warp) * kHeads + block * 8 +
                                   lane * 2) = float2{a, b};
      }
    }
  }
  /// After a barrier: the running maximum begins with that of the step.
  __device__ void seed(int lane) {
    running_ = -INFINITY;
    const float* maxima = maxima_ + parity_ * kWarps * kHeads + lane % kHeads;
#pragma unroll
    for (int warp = 0; warp < kWarps; ++warp) running_ = fmaxf(running_, maxima[warp * kHeads]);
  }
  /// After a barrier: bit i tells that tile i of the step is kept; dropped tiles are added to the
  /// count.
  __device__ uint32_t count(int group, const Segment& segment, int32_t step_unit,
                            DropCount& dropped, int lane) {
    uint32_t kept = 0;
    const float* maxima = maxima_ + parity_ * kWarps * kHeads + lane % kHeads;
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
      float largest = -INFINITY;
#pragma unroll
      for (int unit = 0; unit < kUnitsATile; ++unit) {
        largest = fmaxf(largest, maxima[(tile * kUnitsATile + unit) * kHeads]);
      }
      const bool drop = largest - running_ < log2_threshold_;
      const bool keep = __any_sync(~0u, lane < group && !drop);
      const int32_t visible = visible_keys(segment, step_unit + tile * kUnitsATile);
      if (visible == 0) continue;
      if (!keep) {
        dropped.add(visible);
        continue;
      }
      running_ = fmaxf(running_, largest);
      kept |= 1u << tile;
    }
    return kept;
  }

 private:
  float* maxima_;
  float running_ = 0;
  float log2_threshold_ = 0;
  int parity_ = 0;
};

/// log2(factor / length); -inf, which drops nothing, where Skip Softmax is off.
__device__ inline float log2_threshold(const DecodeArgs& args, const Segment& segment) {
  float factor = args.skip_factor;
  if (args.skip_factors != nullptr && args.skip_factors[segment.seq] >= 0) {
    factor = args.skip_factors[segment.seq];
  }
  const int32_t length =
      args.threshold_len != nullptr ? args.threshold_len[segment.seq] : segment.kv_len;
  const float threshold = factor / static_cast<float>(length);
  return factor > 0 && threshold < 1 ? log2f(threshold) : -INFINITY;
}

/// V of a warp's kept units, in the order of the steps.
template <class Tile>
class ValueStream {
  static constexpr DecodeShape kShape = Tile::kShape;
  static constexpr int kStages = kShape.stages();
  static constexpr int kUnitBytes = kShape.unit_bytes();
  static constexpr int kScoreBytes = kShape.score_bytes();

 public:
  static constexpr int kBytes = kStages * (kUnitBytes + kScoreBytes);

  __device__ ValueStream(char* ring, int lane) : ring_(ring), lane_(lane) {}

  __device__ void start() { kept_ = 0, slot_ = 0; }

  /// The step's place in the ring is free again (see use_oldest): fills it, or leaves it empty.
  __device__ void issue(const DecodeArgs& args, bool keep, const char* rows, int32_t keys,
                        const float (&scores)[kShape.head_blocks][4]) {
    if (keep) {
      __syncwarp();
      Tile::template copy_rows<false>(foveal::cuda::smem_address(values()), rows,
                                      args.v_token_bytes, keys, lane_);
#pragma unroll
      for (int block = 0; block < kShape.head_blocks; ++block) {
        *score(block) =
            float4{scores[block][0], scores[block][1], scores[block][2], scores[block][3]};
      }
    }
    foveal::cuda::cp_async_commit();
    kept_ = kept_ << 1 | (keep ? 1u : 0u);
    advance();
  }
  /// Adds the unit of kStages steps ago, if it was kept. kPending: groups committed since.
  template <int kPending>
  __device__ void use_oldest(typename Tile::Accumulator& acc) {
    if ((kept_ >> (kStages - 1) & 1) == 0) return;
    foveal::cuda::cp_async_wait<kPending>();
    __syncwarp();
    float scores[kShape.head_blocks][4];
#pragma unroll
    for (int block = 0; block < kShape.head_blocks; ++block) {
      const float4 value = *score(block);
      scores[block][0] = value.x, scores[block][1] = value.y;
      scores[block][2] = value.z, scores[block][3] = value.w;
    }
    uint32_t weights[kShape.head_blocks][2];
    Tile::raise_max(acc, scores);
    Tile::weigh(weights, acc, scores);
    Tile::accumulate(acc, weights, values(), lane_);
  }
  /// After the last step of a segment: the kStages steps that are still under way.
  template <int kRound = 0>
  __device__ void drain(typename Tile::Accumulator& acc) {
    if constexpr (kRound < kStages) {
      use_oldest<2 * (kStages - 1 - kRound)>(acc);
      kept_ <<= 1;
      advance();
      drain<kRound + 1>(acc);
    }
  }

 private:
  __device__ void advance() { slot_ = slot_ + 1 == kStages ? 0 : slot_ + 1; }
  __device__ char* values() const { return ring_ + slot_ * kUnitBytes; }
  __device__ float4* score(int block) const {
    return reinterpret_cast<float4*>(ring_ + kStages * kUnitBytes + slot_ * kScoreBytes) +
           block * 32 + lane_;
  }

  char* ring_;
  int lane_;
  int slot_ = 0;
  uint32_t kept_ = 0;
};

// Computes: decode_dense_kernel with Skip Softmax: a tile of 64 keys whose maximum lies more
//   than log2(length / factor) below the running maximum of its split, for all query heads of
//   the row, adds nothing, and its V is not read. The maximum runs over the row's first and
//   last 64 keys (32 above head_dim 128) and the split's kept tiles.
// In/out: DecodeArgs; counters [num_seqs, 4] added to where not null.
// Units: votes of 64 keys; thresholds and scores in the log2 domain.
// Launch: as decode_dense_kernel.
// Needs: as decode_dense_kernel.
// Numerics: as decode_dense_kernel; with a threshold of 1 or more nothing is dropped, and the
//   result is the dense kernel's bit for bit.
// Source: BLASST (arXiv 2512.12087); the order of votes and copies is ours.
// Measured: H100, 64x16k, 73.5 % dropped: 1.54 times as fast as dense, 2026-11-28; more in
//   docs/kernels/cuda_decode.md.
template <class Kv, int kHeadDim, int kHeadBlocks>
__global__ void __launch_bounds__(DecodeTile<Kv, kHeadDim, kHeadBlocks, true>::kShape.warps() * 32,
                                  1) decode_vote_kernel(const __grid_constant__ DecodeArgs args) {
  using Tile = DecodeTile<Kv, kHeadDim, kHeadBlocks, true>;
  using Votes = VoteBox<Tile>;
  constexpr DecodeShape kShape = Tile::kShape;
  constexpr int kWarps = kShape.warps();
  constexpr int kStages = kShape.stages();
  constexpr int kUnitsATile = kDecodeVoteKeys / kDecodeUnit;
  constexpr int kKeyBytes = kStages * kShape.unit_bytes();
  extern __shared__ __align__(128) char shared[];
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  char* value_ring = shared + kWarps * kKeyBytes;
  char* queues = value_ring + kWarps * ValueStream<Tile>::kBytes;
  const RunQueue runs(queues);
  const SegmentQueue segments(queues + kShape.kRunQueueBytes + warp * SegmentQueue::kBytes);
  char* places = queues + kShape.queue_bytes();
  Votes votes(places + kWarps * 64);
  DecodeMerge<Tile> merge(args, value_ring);
  const DecodeDeal deal = open_call(args, runs, lane);
  StepWalk<kWarps, true> copies(args, deal, runs, segments, warp, lane);
  KeyRing<Tile> keys(shared + warp * kKeyBytes, places + warp * 64);
  ValueStream<Tile> values(value_ring + warp * ValueStream<Tile>::kBytes, lane);
  Segment segment;
  uint32_t run = 0;
  uint32_t begun = 0;
  typename Tile::Query query;
  typename Tile::Accumulator acc;
  typename DecodeMerge<Tile>::Parts parts;
  DropCount dropped;
  int32_t step_unit = 0;
  UnitRows rows{};
  int32_t present_keys = 0;
  bool copies_own = false;
  int ahead = -1;
  bool inside = false;
  bool prepared = false;
#pragma unroll 1
  while (true) {
    if (ahead >= 0) {
      if (!inside) {
        if (!segments.get(begun++, segment, run)) break;
        inside = true;
        step_unit = segment.base_unit - kWarps;  // the seeds
        Tile::load_query(query, args, segment.seq, segment.head, lane);
        prepared = false;
        Tile::clear(acc);
        votes.start(log2_threshold(args, segment));
        values.start();
        dropped = DropCount{};
      }
      const bool running = ahead == kStages;
      if (running && !prepared) {  // while the first K is under way
        Tile::prepare(query, args, lane);
        parts = merge.parts_of(segment, run, deal);
        prepared = true;
      }
      if (running && step_unit >= segment.end_unit) {
        values.drain(acc);
        __syncthreads();  // the merge takes the place of V
        merge.finish(acc, segment, parts);
        if (threadIdx.x == 0) {
          count_row(args, segment, /*voted=*/true);
          dropped.write(args, segment);
        }
        inside = false;
        continue;
      }
      float scores[kHeadBlocks][4];
      const char* v_rows = nullptr;
      const bool seed = step_unit < segment.base_unit;
      const int32_t unit = seed ? seed_unit<kWarps>(segment, warp) : step_unit + warp;
      const bool own = seed || (unit >= segment.first_unit && unit < segment.end_unit);
      if (running) {
        Tile::score(scores, query, keys.wait(), lane);
        v_rows = keys.v_rows();
        if (!own || unit * kDecodeUnit < segment.first_key ||
            (unit + 1) * kDecodeUnit > segment.kv_len) {
          Tile::mask(scores, unit, segment.first_key, own ? segment.kv_len : 0, lane);
        }
        votes.put(scores, warp, lane);
      }
      keys.fill(args, copies_own, rows, present_keys, lane);
      if (running) {
        __syncthreads();
        uint32_t kept = 0;
        if (seed) {
          votes.seed(lane);
        } else {
          kept = votes.count(args.group, segment, step_unit, dropped, lane);
        }
        values.template use_oldest<2 * kStages - 1>(acc);
        values.issue(args, own && (kept >> (warp / kUnitsATile) & 1) != 0, v_rows,
                     segment.kv_len - unit * kDecodeUnit, scores);
        step_unit += kWarps;
        --ahead;
      } else {
        foveal::cuda::cp_async_commit();
      }
    }
    ++ahead;
    copies_own = copies.next(rows, present_keys);
  }
  close_call(args, deal, merge);
}

}  // namespace foveal::kernels::cuda

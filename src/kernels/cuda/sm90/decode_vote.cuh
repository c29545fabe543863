#pragma once

#include "kernels/cuda/device/mbarrier.cuh"
#include "kernels/cuda/sm90/decode_counters.cuh"
#include "kernels/cuda/sm90/decode_merge.cuh"
#include "kernels/cuda/sm90/decode_pages.cuh"

// Decode with Skip Softmax. The CTA goes in steps of one unit a warp: all score their keys, meet at one
// barrier, and every warp then computes the same votes from the tiles' maxima, in ascending order of
// the tiles, so that a run decides as a sequential loop over the segment would. V of a kept unit is
// requested then and used kStages steps later; V of a dropped one is never requested.

namespace foveal::kernels::cuda {

/// K of a warp's units, kStages ahead, in lock-step with the other warps of the CTA: a warp without a
/// unit in a step copies nothing. Each step must wait once, then issue once for K and commit once more
/// (for V): the groups are counted.
template <class Tile>
class KeyStream {
  static constexpr DecodeShape kShape = Tile::kShape;
  static constexpr int kWarps = kShape.warps();
  static constexpr int kStages = kShape.stages();
  static constexpr int kUnitBytes = kShape.unit_bytes();

 public:
  __device__ KeyStream(const DecodeArgs& args, char* ring, int warp, int lane)
      : args_(args), ring_(ring), warp_(warp), lane_(lane) {}

  __device__ void start(const SegmentWalk& walk) {
    walk_ = walk;
    enter();
#pragma unroll 1
    for (int stage = 0; stage < kStages; ++stage) {
      issue();
      foveal::cuda::cp_async_commit();
    }
  }
  __device__ const char* wait() const {
    foveal::cuda::cp_async_wait<2 * kStages - 1>();
    return ring_ + slot_ * kUnitBytes;
  }
  /// The slot last waited for is read: the copy of a later unit follows.
  __device__ void release() { issue(); }

 private:
  __device__ void enter() {
    alive_ = walk_.next(args_, segment_);
    if (!alive_) return;
    step_unit_ = segment_.base_unit;
    pages_.open(args_, segment_, step_unit_ + warp_, kWarps, lane_);
  }
  __device__ void issue() {
    if (alive_ && step_unit_ >= segment_.end_unit) enter();
    if (alive_) {
      const int32_t unit = step_unit_ + warp_;
      if (pages_.exhausted()) pages_.open(args_, segment_, unit, kWarps, lane_);
      const UnitRows rows = pages_.next(args_, segment_, unit);
      if (unit >= segment_.first_unit && unit < segment_.end_unit) {
        Tile::copy_k(foveal::cuda::smem_address(ring_) + next_ * kUnitBytes, rows.k, args_.k_token_bytes,
                     segment_.kv_len - unit * kDecodeUnit, lane_);
      }
      step_unit_ += kWarps;
    }
    foveal::cuda::cp_async_commit();
    slot_ = next_ + 1 == kStages ? 0 : next_ + 1;  // the oldest, next to be waited for
    next_ = slot_;
  }

  const DecodeArgs& args_;
  char* ring_;
  int warp_;
  int lane_;
  int slot_ = 0;
  int next_ = 0;
  SegmentWalk walk_;
  Segment segment_;
  PageWindow pages_;
  int32_t step_unit_ = 0;
  bool alive_ = false;
};

/// Votes of a CTA's steps. Lane i of every warp follows query head i.
template <class Tile>
class VoteBox {
  static constexpr int kWarps = Tile::kShape.warps();
  static constexpr int kHeads = 8 * Tile::kShape.head_blocks;
  static constexpr int kUnitsATile = kDecodeVoteKeys / kDecodeUnit;

 public:
  static constexpr int kTiles = kWarps / kUnitsATile;  ///< a step

  __device__ explicit VoteBox(char* shared) : maxima_(reinterpret_cast<float*>(shared)) {}

  __device__ void start(float log2_threshold) {
    running_ = -INFINITY;
    log2_threshold_ = log2_threshold;
    first_ = true;
  }
  __device__ void put(const float (&scores)[Tile::kShape.head_blocks][4], int warp, int lane) {
    parity_ ^= 1;
#pragma unroll
    for (int block = 0; block < Tile::kShape.head_blocks; ++block) {
      const float a = Tile::column_max(scores[block], 0);
      const float b = Tile::column_max(scores[block], 1);
      if (lane < 4) {
        *reinterpret_cast<float2*>(maxima_ + (parity_ * kWarps + warp) * kHeads + block * 8 + lane * 2) =
            float2{a, b};
      }
    }
  }
  /// After a barrier: bit i tells that tile i of the step is kept. `present` has a bit for each tile
  /// with a visible key.
  __device__ uint32_t count(int group, uint32_t present, int lane) {
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
      const bool keep = __any_sync(~0u, lane < group && !drop) || first_;
      if ((present >> tile & 1) == 0 || !keep) continue;
      first_ = false;
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
  bool first_ = true;
};

/// log2(factor / length); -inf, which drops nothing, where Skip Softmax is off.
__device__ inline float log2_threshold(const DecodeArgs& args, const Segment& segment) {
  float factor = args.skip_factor;
  if (args.skip_factors != nullptr && args.skip_factors[segment.seq] >= 0) {
    factor = args.skip_factors[segment.seq];
  }
  const int32_t length = args.threshold_len != nullptr ? args.threshold_len[segment.seq] : segment.kv_len;
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
      Tile::copy_v(foveal::cuda::smem_address(values()), rows, args.v_token_bytes, keys, lane_);
#pragma unroll
      for (int block = 0; block < kShape.head_blocks; ++block) {
        *score(block) = float4{scores[block][0], scores[block][1], scores[block][2], scores[block][3]};
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
    return reinterpret_cast<float4*>(ring_ + kStages * kUnitBytes + slot_ * kScoreBytes) + block * 32 + lane_;
  }

  char* ring_;
  int lane_;
  int slot_ = 0;
  uint32_t kept_ = 0;
};

/// Visible keys of the segment in the tile that begins at `tile_unit`.
__device__ inline int32_t visible_keys(const Segment& segment, int32_t tile_unit) {
  constexpr int32_t kUnits = kDecodeVoteKeys / kDecodeUnit;
  const int32_t first = max(tile_unit * kDecodeUnit, segment.first_key);
  const int32_t end = min(min(tile_unit + kUnits, segment.end_unit) * kDecodeUnit, segment.kv_len);
  return max(end - first, 0);
}

template <class Kv, int kHeadDim, int kHeadBlocks>
__global__ void __launch_bounds__(DecodeTile<Kv, kHeadDim, kHeadBlocks, true>::kShape.warps() * 32, 1)
    decode_vote_kernel(const __grid_constant__ DecodeArgs args) {
  using Tile = DecodeTile<Kv, kHeadDim, kHeadBlocks, true>;
  using Votes = VoteBox<Tile>;
  constexpr int kWarps = Tile::kShape.warps();
  constexpr int kStages = Tile::kShape.stages();
  constexpr int kUnitsATile = kDecodeVoteKeys / kDecodeUnit;
  constexpr int kKeyBytes = kStages * Tile::kShape.unit_bytes();
  extern __shared__ __align__(128) char shared[];
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  foveal::cuda::grid_dependency_wait();
  prefetch_tables(args);

  const uint32_t worker = blockIdx.x;
  const DecodeDeal deal =
      decode_deal(total_chunks(args, lane), args.min_chunks_log2, gridDim.x);
  SegmentWalk walk;
  if (worker < deal.workers) {
    walk.start(args, deal.begin(worker), deal.begin(worker + 1), lane);
  }
  char* value_ring = shared + kWarps * kKeyBytes;
  KeyStream<Tile> keys(args, shared + warp * kKeyBytes, warp, lane);
  ValueStream<Tile> values(value_ring + warp * ValueStream<Tile>::kBytes, lane);
  char* query_buffer = value_ring + kWarps * ValueStream<Tile>::kBytes;
  Votes votes(query_buffer + Tile::kShape.query_bytes());
  keys.start(walk);
  foveal::cuda::grid_dependents_launch();

  DecodeMerge<Tile> merge(args, value_ring);
  Segment segment;
  while (walk.next(args, segment)) {
    typename Tile::Query query;
    typename Tile::Accumulator acc;
    PageWindow pages;
    pages.open(args, segment, segment.base_unit + warp, kWarps, lane);
    Tile::load_query(query, query_buffer, args, segment.seq, segment.head, warp, lane);
    Tile::clear(acc);
    votes.start(log2_threshold(args, segment));
    values.start();
    DropCount dropped;
#pragma unroll 1
    for (int32_t step_unit = segment.base_unit; step_unit < segment.end_unit; step_unit += kWarps) {
      const int32_t unit = step_unit + warp;
      if (pages.exhausted()) pages.open(args, segment, unit, kWarps, lane);
      const UnitRows rows = pages.next(args, segment, unit);
      const bool own = unit >= segment.first_unit && unit < segment.end_unit;
      float scores[kHeadBlocks][4];
      const char* slot = keys.wait();
      Tile::score(scores, query, slot, lane);
      if (!own || unit * kDecodeUnit < segment.first_key || (unit + 1) * kDecodeUnit > segment.kv_len) {
        Tile::mask(scores, unit, segment.first_key, own ? segment.kv_len : 0, lane);
      }
      votes.put(scores, warp, lane);
      keys.release();
      __syncthreads();
      uint32_t present = 0;
#pragma unroll
      for (int tile = 0; tile < Votes::kTiles; ++tile) {
        present |= (visible_keys(segment, step_unit + tile * kUnitsATile) > 0 ? 1u : 0u) << tile;
      }
      const uint32_t kept = votes.count(args.group, present, lane);
#pragma unroll
      for (int tile = 0; tile < Votes::kTiles; ++tile) {
        if ((present & ~kept) >> tile & 1) {
          dropped.add(visible_keys(segment, step_unit + tile * kUnitsATile));
        }
      }
      values.template use_oldest<2 * kStages - 1>(acc);
      values.issue(args, own && (kept >> (warp / kUnitsATile) & 1) != 0, rows.v,
                   segment.kv_len - unit * kDecodeUnit, scores);
    }
    values.drain(acc);
    __syncthreads();  // the merge takes the place of V
    merge.finish(acc, segment, deal);
    if (threadIdx.x == 0) {
      count_row(args, segment, /*voted=*/true);
      dropped.write(args, segment);
    }
  }
#pragma unroll 1
  for (auto seq = static_cast<int32_t>(worker); seq < args.num_seqs; seq += static_cast<int32_t>(gridDim.x)) {
    if (args.kv_len[seq] <= 0) merge.write_empty(seq);
  }
}

}  // namespace foveal::kernels::cuda

#pragma once

#include "kernels/cuda/device/mbarrier.cuh"
#include "kernels/cuda/sm90/decode_counters.cuh"
#include "kernels/cuda/sm90/decode_merge.cuh"
#include "kernels/cuda/sm90/decode_pages.cuh"

namespace foveal::kernels::cuda {

template <class Tile>
class DensePipeline {
  static constexpr DecodeShape kShape = Tile::kShape;
  static constexpr int kWarps = kShape.warps();
  static constexpr int kStages = kShape.stages();
  static constexpr int kUnitBytes = kShape.unit_bytes();

 public:
  __device__ DensePipeline(const DecodeArgs& args, char* shared, int warp, int lane)
      : args_(args), ring_(shared + warp * kStages * 2 * kUnitBytes), warp_(warp), lane_(lane) {}

  __device__ void start(const SegmentWalk& walk) {
    walk_ = walk;
    alive_ = walk_.next(args_, segment_);
    if (alive_) open(first_unit(segment_, kWarps, warp_));
  }

  /// K, then V of the next unit in order; each call waits for one more group.
  __device__ const char* wait_k() const {
    foveal::cuda::cp_async_wait<2 * kStages - 1>();
    return ring_ + read_ * 2 * kUnitBytes;
  }
  __device__ const char* wait_v() const {
    foveal::cuda::cp_async_wait<2 * kStages - 2>();
    return ring_ + read_ * 2 * kUnitBytes + kUnitBytes;
  }
  /// The unit's slots are read: the next copies may take them.
  __device__ void release() { read_ = read_ + 1 == kStages ? 0 : read_ + 1; }

  /// Copies of the next unit, perhaps of a later segment, or an empty turn after the last.
  __device__ void issue() {
    while (alive_ && unit_ >= segment_.end_unit) {
      alive_ = walk_.next(args_, segment_);
      if (alive_) open(first_unit(segment_, kWarps, warp_));
    }
    if (alive_) {
      if (pages_.exhausted()) pages_.open(args_, segment_, unit_, kWarps, lane_);
      const UnitRows rows = pages_.next(args_, segment_, unit_);
      const int32_t keys = segment_.kv_len - unit_ * kDecodeUnit;
      const uint32_t slot = foveal::cuda::smem_address(ring_) + write_ * 2 * kUnitBytes;
      Tile::copy_k(slot, rows.k, args_.k_token_bytes, keys, lane_);
      foveal::cuda::cp_async_commit();
      Tile::copy_v(slot + kUnitBytes, rows.v, args_.v_token_bytes, keys, lane_);
      unit_ += kWarps;
    } else {
      foveal::cuda::cp_async_commit();
    }
    foveal::cuda::cp_async_commit();
    write_ = write_ + 1 == kStages ? 0 : write_ + 1;
  }

 private:
  __device__ void open(int32_t unit) {
    unit_ = unit;
    if (unit_ < segment_.end_unit) pages_.open(args_, segment_, unit_, kWarps, lane_);
  }

  const DecodeArgs& args_;
  char* ring_;
  int warp_;
  int lane_;
  int read_ = 0;
  int write_ = 0;
  SegmentWalk walk_;
  Segment segment_;
  PageWindow pages_;
  int32_t unit_ = 0;
  bool alive_ = false;
};

template <class Kv, int kHeadDim, int kHeadBlocks>
__global__ void __launch_bounds__(DecodeTile<Kv, kHeadDim, kHeadBlocks, false>::kShape.warps() * 32, 1)
    decode_dense_kernel(const __grid_constant__ DecodeArgs args) {
  using Tile = DecodeTile<Kv, kHeadDim, kHeadBlocks, false>;
  constexpr int kWarps = Tile::kShape.warps();
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
  DensePipeline<Tile> pipeline(args, shared, warp, lane);
  pipeline.start(walk);

  char* query_buffer = shared + Tile::kShape.ring_bytes();
  DecodeMerge<Tile> merge(args, query_buffer + Tile::kShape.query_bytes());
  Segment segment;
  typename Tile::Query query;
  typename Tile::Accumulator acc;
  int32_t unit = 0;
  int ahead = 0;  // units whose copies run ahead; one place in the code issues them all
  bool inside = false;
#pragma unroll 1
  while (true) {
    if (ahead == Tile::kShape.stages()) {
      if (!inside) {
        if (!walk.next(args, segment)) break;
        inside = true;
        unit = first_unit(segment, kWarps, warp);
        Tile::load_query(query, query_buffer, args, segment.seq, segment.head, warp, lane);
        Tile::clear(acc);
      }
      if (unit >= segment.end_unit) {
        merge.finish(acc, segment, deal);
        if (threadIdx.x == 0) count_row(args, segment, /*voted=*/false);
        inside = false;
        continue;
      }
      float scores[kHeadBlocks][4];
      Tile::score(scores, query, pipeline.wait_k(), lane);
      if (unit * kDecodeUnit < segment.first_key || (unit + 1) * kDecodeUnit > segment.kv_len) {
        Tile::mask(scores, unit, segment.first_key, segment.kv_len, lane);
      }
      uint32_t weights[kHeadBlocks][2];
      Tile::raise_max(acc, scores);
      Tile::weigh(weights, acc, scores);
      Tile::accumulate(acc, weights, pipeline.wait_v(), lane);
      pipeline.release();
      unit += kWarps;
    } else {
      ++ahead;
    }
    pipeline.issue();
  }
  foveal::cuda::grid_dependents_launch();
#pragma unroll 1
  for (auto seq = static_cast<int32_t>(worker); seq < args.num_seqs; seq += static_cast<int32_t>(gridDim.x)) {
    if (args.kv_len[seq] <= 0) merge.write_empty(seq);
  }
}

}  // namespace foveal::kernels::cuda

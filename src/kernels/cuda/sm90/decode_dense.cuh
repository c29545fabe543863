#pragma once

#include "kernels/cuda/device/mbarrier.cuh"
#include "kernels/cuda/sm90/decode_merge.cuh"

namespace foveal::kernels::cuda {

/// Where the rows of K and V of one unit begin.
struct UnitRows {
  const char* k;
  const char* v;
};

/// Page ids of a warp's coming units: lane i holds that of the i-th of 32, so that one load a 32 units
/// is enough and no copy waits for its address.
class PageWindow {
 public:
  __device__ void open(const DecodeArgs& args, const Segment& segment, int32_t unit, int32_t stride,
                       int lane) {
    used_ = 0;
    if (args.page_table == nullptr) {
      page_ = args.cu_k[segment.seq];
      return;
    }
    const int32_t last = (segment.kv_len - 1) >> args.page_shift;
    const int32_t at = min((unit + lane * stride) * kDecodeUnit >> args.page_shift, last);
    page_ = args.page_table[segment.seq * args.page_table_stride + at];
  }
  __device__ bool exhausted() const { return used_ == 32; }
  __device__ UnitRows next(const DecodeArgs& args, const Segment& segment, int32_t unit) {
    const int32_t page = __shfl_sync(~0u, page_, used_++);
    const bool paged = args.page_table != nullptr;
    const int64_t row = paged ? (unit * kDecodeUnit) & ((1 << args.page_shift) - 1)
                              : static_cast<int64_t>(unit) * kDecodeUnit + page;
    const int64_t whole = paged ? page : 0;
    return {args.k + whole * args.k_page_bytes + segment.head * args.k_head_bytes + row * args.k_token_bytes,
            args.v + whole * args.v_page_bytes + segment.head * args.v_head_bytes + row * args.v_token_bytes};
  }

 private:
  int32_t page_ = 0;
  int used_ = 0;
};

/// The table's lines and the queries come from memory while kv_len is still on its way.
__device__ inline void prefetch_tables(const DecodeArgs& args) {
  const int32_t thread = static_cast<int32_t>(blockIdx.x * blockDim.x + threadIdx.x);
  if (thread >= args.prefetch_lines * args.num_seqs) return;
  foveal::cuda::prefetch_l2(args.page_table + thread / args.prefetch_lines * args.page_table_stride +
                            thread % args.prefetch_lines * 32);
}

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
    if (alive_) open(segment_.first_unit + warp_);
    for (int stage = 0; stage < kStages; ++stage) issue();
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
  /// The unit's slots are read: copies of a later one may follow, perhaps of the next segment.
  __device__ void release() {
    read_ = read_ + 1 == kStages ? 0 : read_ + 1;
    issue();
  }

 private:
  __device__ void open(int32_t unit) {
    unit_ = unit;
    if (unit_ < segment_.end_unit) pages_.open(args_, segment_, unit_, kWarps, lane_);
  }
  __device__ void issue() {
    while (alive_ && unit_ >= segment_.end_unit) {
      alive_ = walk_.next(args_, segment_);
      if (alive_) open(segment_.first_unit + warp_);
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
__global__ void __launch_bounds__(DecodeShape{kHeadDim, KvTraits<Kv>::kBytes, kHeadBlocks}.warps() * 32, 1)
    decode_dense_kernel(const __grid_constant__ DecodeArgs args) {
  using Tile = DecodeTile<Kv, kHeadDim, kHeadBlocks>;
  constexpr int kWarps = Tile::kShape.warps();
  extern __shared__ __align__(128) char shared[];
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  foveal::cuda::grid_dependency_wait();
  prefetch_tables(args);

  const int worker = static_cast<int>(blockIdx.x);
  const DecodeDeal deal =
      decode_deal(total_chunks(args, lane), args.min_chunks, static_cast<int32_t>(gridDim.x));
  SegmentWalk walk;
  if (worker < deal.workers) {
    walk.start(args, deal.begin(worker), deal.begin(worker + 1), lane);
  }
  DensePipeline<Tile> pipeline(args, shared, warp, lane);
  pipeline.start(walk);
  foveal::cuda::grid_dependents_launch();

  DecodeMerge<Tile> merge(args, shared + Tile::kShape.ring_bytes());
  Segment segment;
  while (walk.next(args, segment)) {
    typename Tile::Query query;
    typename Tile::Accumulator acc;
    Tile::load_query(query, args, segment.seq, segment.head, lane);
    Tile::clear(acc);
    for (int32_t unit = segment.first_unit + warp; unit < segment.end_unit; unit += kWarps) {
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
    }
    merge.finish(acc, segment, deal);
  }
  for (int32_t seq = worker; seq < args.num_seqs; seq += static_cast<int32_t>(gridDim.x)) {
    if (args.kv_len[seq] <= 0) merge.write_empty(seq);
  }
}

}  // namespace foveal::kernels::cuda

#pragma once

#include "kernels/cuda/device/mbarrier.cuh"
#include "kernels/cuda/sm90/decode_counters.cuh"
#include "kernels/cuda/sm90/decode_merge.cuh"
#include "kernels/cuda/sm90/decode_runs.cuh"

namespace foveal::kernels::cuda {

/// The places of a warp's units in shared memory, K then V, taken in turn; copies are counted in
/// groups, one for K and one for V of each step.
template <class Tile>
class UnitRing {
  static constexpr int kStages = Tile::kShape.stages();
  static constexpr int kUnitBytes = Tile::kShape.unit_bytes();

 public:
  __device__ explicit UnitRing(char* shared) : ring_(shared) {}

  template <class Rows>
  __device__ void fill(const DecodeArgs& args, bool own, const Rows& rows, int32_t keys, int lane) {
    const uint32_t slot = foveal::cuda::smem_address(ring_) + write_ * 2 * kUnitBytes;
    if (own) rows.template copy<Tile, true>(args, slot, keys, lane);
    foveal::cuda::cp_async_commit();
    if (own) rows.template copy<Tile, false>(args, slot + kUnitBytes, keys, lane);
    foveal::cuda::cp_async_commit();
    write_ = write_ + 1 == kStages ? 0 : write_ + 1;
  }
  __device__ const char* wait_k() const {
    foveal::cuda::cp_async_wait<2 * kStages - 1>();
    __syncwarp();
    return ring_ + read_ * 2 * kUnitBytes;
  }
  __device__ const char* wait_v() const {
    foveal::cuda::cp_async_wait<2 * kStages - 2>();
    __syncwarp();
    return ring_ + read_ * 2 * kUnitBytes + kUnitBytes;
  }
  /// The step's place is read by all lanes: the next copies may take it.
  __device__ void release() {
    __syncwarp();
    read_ = read_ + 1 == kStages ? 0 : read_ + 1;
  }

 private:
  char* ring_;
  int read_ = 0;
  int write_ = 0;
};

// Computes: out = softmax(scale q K^T) V of one query a sequence over paged K and V, all
//   query heads of a KV head together; over all pages, or (Pages = ListedWindow) those listed.
// In/out: DecodeArgs; K and V [num_pages, ...] by strides; out [num_seqs, num_heads,
//   head_dim].
// Units: keys of 16 (a warp's step) and 64 (a chunk, the grain of the work); scores in the
//   log2 domain.
// Launch: a CTA a multiprocessor, 8 warps (4 above head_dim 128),
//   DecodeShape::shared_bytes().
// Needs: sm_90 for its 227 KiB of shared memory; rows at multiples of 16 bytes.
// Numerics: float32 sums, weights rounded to bf16 (f16 where K and V are f16 or e4m3). Splits
//   depend on the lengths only and are joined in ascending order: runs repeat bit for bit. A
//   row without keys is zero, its lse -inf. K and V past the length are not read.
// Source: ours; the recurrence is FlashAttention's (arXiv 2205.14135), split as in
//   Flash-Decoding.
// Measured: H100, 64x16k, 32/8 heads, d 128, bf16: 1415 us, 98.7 % of a plain read,
//   2026-11-28; more in docs/kernels/cuda_decode.md.
template <class Kv, int kHeadDim, int kHeadBlocks, class Pages = PageWindow>
__global__ void __launch_bounds__(DecodeTile<Kv, kHeadDim, kHeadBlocks, false>::kShape.warps() * 32,
                                  1) decode_dense_kernel(const __grid_constant__ DecodeArgs args) {
  using Tile = DecodeTile<Kv, kHeadDim, kHeadBlocks, false>;
  constexpr DecodeShape kShape = Tile::kShape;
  constexpr int kWarps = kShape.warps();
  extern __shared__ __align__(128) char shared[];
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  char* queues = shared + kShape.ring_bytes();
  const RunQueue runs(queues);
  const SegmentQueue segments(queues + kShape.kRunQueueBytes + warp * SegmentQueue::kBytes);
  DecodeMerge<Tile> merge(args, queues + kShape.queue_bytes());
  const DecodeDeal deal = open_call(args, runs, lane);
  StepWalk<kWarps, false, Pages> copies(args, deal, runs, segments, warp, lane);
  UnitRing<Tile> ring(shared + warp * kShape.stages() * 2 * kShape.unit_bytes());
  Segment segment;
  uint32_t run = 0;
  uint32_t begun = 0;
  typename Tile::Query query;
  typename Tile::Accumulator acc;
  typename DecodeMerge<Tile>::Parts parts;
  int32_t step_unit = 0;
  typename Pages::Rows rows{};
  int32_t keys = 0;
  bool own = false;
  int ahead = -1;  // steps whose copies are under way; one place in the code starts them all
  bool inside = false;
  bool prepared = false;
#pragma unroll 1
  while (true) {
    if (ahead >= 0) {
      if (!inside) {
        if (!segments.get(begun++, segment, run)) break;
        inside = true;
        step_unit = segment.base_unit;
        Tile::load_query(query, args, segment.seq, segment.head, lane);
        prepared = false;
        Tile::clear(acc);
      }
      if (ahead == kShape.stages()) {
        if (!prepared) {  // while the first K is under way
          Tile::prepare(query, args, lane);
          parts = merge.parts_of(segment, run, deal);
          prepared = true;
        }
        if (step_unit >= segment.end_unit) {
          merge.finish(acc, segment, parts);
          if (threadIdx.x == 0) count_row(args, segment, /*voted=*/false);
          inside = false;
          continue;
        }
        const int32_t unit = step_unit + warp;
        if (unit >= segment.first_unit && unit < segment.end_unit) {
          float scores[kHeadBlocks][4];
          Tile::score(scores, query, ring.wait_k(), lane);
          if (unit * kDecodeUnit < segment.first_key || (unit + 1) * kDecodeUnit > segment.kv_len) {
            Tile::mask(scores, unit, segment.first_key, segment.kv_len, lane);
          }
          uint32_t weights[kHeadBlocks][2];
          Tile::raise_max(acc, scores);
          Tile::weigh(weights, acc, scores);
          Tile::accumulate(acc, weights, ring.wait_v(), lane);
        }
        ring.release();
        step_unit += kWarps;
        --ahead;
      }
      ring.fill(args, own, rows, keys, lane);
    }
    ++ahead;
    own = copies.next(rows, keys);
  }
  close_call(args, deal, merge);
}

}  // namespace foveal::kernels::cuda

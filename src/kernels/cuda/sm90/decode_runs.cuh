#pragma once

#include "kernels/cuda/device/atomic.cuh"
#include "kernels/cuda/device/pdl.cuh"
#include "kernels/cuda/sm90/decode_merge.cuh"
#include "kernels/cuda/sm90/decode_pages.cuh"

// The order of a CTA's work: its long run, then short ones taken from a counter. All warps go
// through the same steps, a unit of keys for each warp in a step, and copies run kStages (8 at
// most) steps ahead of their use. Warp 0 takes the runs, one ahead, and passes them on to the
// copies of all warps, the n-th in the n-th place (modulo kPlaces), marked with n. A run has a step
// at least and nobody is more than 9 steps ahead of another, so no place is needed again too early.

namespace foveal::kernels::cuda {

class RunQueue {
 public:
  static constexpr uint32_t kPlaces = 16;

  __device__ explicit RunQueue(char* shared)
      : places_(reinterpret_cast<unsigned long long*>(shared)) {}

  __device__ void clear() const {
    if (threadIdx.x < kPlaces) places_[threadIdx.x] = ~0ULL;
  }
  /// By one lane.
  __device__ void put(uint32_t ordinal, uint32_t run) const {
    atomicExch(places_ + ordinal % kPlaces, static_cast<unsigned long long>(ordinal) << 32 | run);
  }
  /// By a whole warp; waits until the run is there.
  __device__ uint32_t get(uint32_t ordinal, int lane) const {
    uint32_t run = 0;
    if (lane == 0) {
      unsigned long long value = 0;
      do {
        value = atomicCAS(places_ + ordinal % kPlaces, 0ULL, 0ULL);
      } while (static_cast<uint32_t>(value >> 32) != ordinal);
      run = static_cast<uint32_t>(value);
    }
    return __shfl_sync(~0u, run, 0);
  }

 private:
  unsigned long long* places_;
};

/// Segments on their way from a warp's copies to its sums, some steps later.
class SegmentQueue {
 public:
  static constexpr uint32_t kPlaces = 12;
  struct Entry {
    Segment segment;
    uint32_t run;
  };
  static constexpr int kBytes = kPlaces * sizeof(Entry);

  __device__ explicit SegmentQueue(char* shared) : entries_(reinterpret_cast<Entry*>(shared)) {}
  /// A segment without chunks ends the work.
  __device__ void put(uint32_t ordinal, const Segment& segment, uint32_t run, int lane) const {
    if (lane == 0) entries_[ordinal % kPlaces] = Entry{segment, run};
    __syncwarp();
  }
  __device__ bool get(uint32_t ordinal, Segment& segment, uint32_t& run) const {
    const Entry& entry = entries_[ordinal % kPlaces];
    segment = entry.segment;
    run = entry.run;
    __syncwarp();
    return segment.chunks > 0;
  }

 private:
  Entry* entries_;
};
static_assert(SegmentQueue::kBytes == DecodeShape::kSegmentQueueBytes &&
              RunQueue::kPlaces * sizeof(uint64_t) == DecodeShape::kRunQueueBytes);

/// The segments of all of the CTA's runs.
class RunWalk {
 public:
  __device__ RunWalk(const DecodeArgs& args, const DecodeDeal& deal, const RunQueue& queue,
                     int lane)
      : args_(args), deal_(deal), queue_(queue), lane_(lane) {
    if (blockIdx.x < deal.workers) {
      segments_.start(args, deal.begin(blockIdx.x), deal.begin(blockIdx.x + 1), lane);
    }
  }
  __device__ bool next(Segment& segment) {
#pragma unroll 1
    while (!segments_.next(args_, segment)) {
      if (done_) return false;
      const uint32_t run = deal_.runs > deal_.workers ? queue_.get(asked_++, lane_) : deal_.runs;
      done_ = run >= deal_.runs;
      if (done_) continue;
      run_ = run;
      segments_.start(args_, deal_.begin(run), deal_.begin(run + 1), lane_);
    }
    return true;
  }
  /// The run of the last segment.
  __device__ uint32_t run() const { return run_; }
  /// Runs asked for.
  __device__ uint32_t asked() const { return asked_; }

 private:
  const DecodeArgs& args_;
  const DecodeDeal& deal_;
  const RunQueue& queue_;
  int lane_;
  SegmentWalk segments_;
  uint32_t run_ = blockIdx.x;
  uint32_t asked_ = 0;
  bool done_ = false;
};

/// The unit that a warp scores before a segment's own where votes are taken: half of the warps the
/// row's first visible units, half its last. The largest scores of a row mostly lie there, so that
/// every split of it votes against nearly the maximum of all (docs/kernels/cuda_decode.md).
template <int kWarps>
__device__ int32_t seed_unit(const Segment& segment, int warp) {
  const int32_t first = segment.first_row_unit();
  const int32_t end = segment.end_row_unit();
  return warp < kWarps / 2 ? min(first + warp, end - 1) : max(end - kWarps + warp, first);
}

/// Where the copies are: the coming step of a warp. With kSeed each segment begins with a step of
/// seed units. `Pages` knows where the rows of a unit lie.
template <int kWarps, bool kSeed, class Pages = PageWindow>
class StepWalk {
 public:
  __device__ StepWalk(const DecodeArgs& args, const DecodeDeal& deal, const RunQueue& runs,
                      const SegmentQueue& segments, int warp, int lane)
      : args_(args),
        deal_(deal),
        runs_(runs),
        segments_(segments),
        warp_(warp),
        lane_(lane),
        walk_(args, deal, runs, lane) {
    take();
  }

  /// Moves to the next step. True if the warp has a unit in it: its rows, and how many of its 16
  /// keys exist.
  __device__ bool next(typename Pages::Rows& rows, int32_t& keys) {
    pass_on();
    step_unit_ += kWarps;
    if (step_unit_ >= segment_.end_unit && !enter()) return false;
    const bool seed = kSeed && step_unit_ < segment_.base_unit;
    const int32_t unit = seed ? seed_unit<kWarps>(segment_, warp_) : step_unit_ + warp_;
    if (pages_.exhausted()) open(unit);
    rows = pages_.next(args_, segment_, unit);
    keys = segment_.kv_len - unit * kDecodeUnit;
    return seed || (unit >= segment_.first_unit && unit < segment_.end_unit);
  }

 private:
  __device__ bool enter() {
    if (!alive_) return false;
    const uint32_t before = walk_.asked();
    alive_ = walk_.next(segment_);
    if (alive_) {
      Pages::trim(args_, segment_);
    } else {
      segment_.chunks = 0;
    }
    segments_.put(entered_++, segment_, walk_.run(), lane_);
    if (!alive_) return false;
    if (walk_.asked() != before) take();
    step_unit_ = segment_.base_unit - (kSeed ? kWarps : 0);
    open(kSeed ? seed_unit<kWarps>(segment_, warp_) : step_unit_ + warp_);
    return true;
  }
  /// Page ids from `unit` on, the one of the coming step.
  __device__ void open(int32_t unit) {
    pages_.open(args_, segment_, unit, step_unit_ + kWarps + warp_, kWarps, lane_);
  }
  /// Asks for the next run while this one is worked on; the answer is passed on a step later.
  __device__ void take() {
    if (warp_ != 0 || deal_.runs == deal_.workers) return;
    if (lane_ == 0) taken_ = deal_.workers + atomicAdd(args_.tickets, 1);
    pending_ = true;
  }
  __device__ void pass_on() {
    if (!pending_) return;
    if (lane_ == 0) runs_.put(walk_.asked(), taken_);
    pending_ = false;
  }

  const DecodeArgs& args_;
  const DecodeDeal& deal_;
  const RunQueue& runs_;
  const SegmentQueue& segments_;
  int warp_;
  int lane_;
  bool pending_ = false;
  bool alive_ = true;
  uint32_t taken_ = 0;
  uint32_t entered_ = 0;
  RunWalk walk_;
  Segment segment_;
  Pages pages_;
  int32_t step_unit_ = 0;
};

/// How both kernels begin. All threads. CTAs of the next kernel come where one of these has ended
/// or has no work: a product of few rows fills its ring with weights while parts are joined.
__device__ inline DecodeDeal open_call(const DecodeArgs& args, const RunQueue& runs, int lane) {
  let_next_start();
  wait_for_previous();
  // Nothing can be asked for before a length is known.
  const int32_t kv_len = lane < args.num_seqs ? foveal::cuda::load_now(args.kv_len + lane) : 0;
  prefetch_small(args);
  const DecodeDeal deal =
      decode_deal(total_chunks(args, kv_len, lane), args.min_chunks_log2, gridDim.x);
  if (deal.runs > deal.workers) {
    runs.clear();
    __syncthreads();
  }
  return deal;
}

/// And end: rows without keys become zeros; the last CTA to leave puts the counter back for the
/// next call.
template <class Tile>
__device__ void close_call(const DecodeArgs& args, const DecodeDeal& deal,
                           const DecodeMerge<Tile>& merge) {
  if (deal.runs > deal.workers && threadIdx.x == 0 &&
      foveal::cuda::atomic_inc_acq_rel(args.tickets + 1, gridDim.x - 1) == gridDim.x - 1) {
    args.tickets[0] = 0;
  }
#pragma unroll 1
  for (auto seq = static_cast<int32_t>(blockIdx.x); seq < args.num_seqs;
       seq += static_cast<int32_t>(gridDim.x)) {
    if (args.kv_len[seq] <= 0) merge.write_empty(seq);
  }
}

}  // namespace foveal::kernels::cuda

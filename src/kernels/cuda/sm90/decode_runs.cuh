#pragma once

#include "kernels/cuda/device/atomic.cuh"
#include "kernels/cuda/sm90/decode_pages.cuh"

// The order of a CTA's work: its long run, then short ones taken from a counter. All warps go
// through the same steps, a unit of keys for each warp in a step; copies run some steps ahead of
// their use, so each warp walks the work twice. Warp 0 takes the runs, one ahead, and passes them
// on through shared memory: each walk reads the n-th run at the n-th place (modulo kPlaces), marked
// with n. No walk is more than the stages of the ring (8) ahead of another, and a run has one step
// at least.

namespace foveal::kernels::cuda {

class RunQueue {
 public:
  static constexpr uint32_t kPlaces = 16;

  __device__ explicit RunQueue(char* shared) : places_(reinterpret_cast<uint64_t*>(shared)) {}

  __device__ void clear() const {
    if (threadIdx.x < kPlaces) places_[threadIdx.x] = ~uint64_t{0};
  }
  __device__ void put(uint32_t ordinal, uint32_t run) const {
    *place(ordinal) = static_cast<uint64_t>(ordinal) << 32 | run;
  }
  __device__ uint32_t get(uint32_t ordinal) const {
    uint64_t value = *place(ordinal);
    while (static_cast<uint32_t>(value >> 32) != ordinal) value = *place(ordinal);
    return static_cast<uint32_t>(value);
  }

 private:
  __device__ volatile uint64_t* place(uint32_t ordinal) const {
    return places_ + ordinal % kPlaces;
  }
  uint64_t* places_;
};

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
      const uint32_t run = deal_.runs > deal_.workers ? queue_.get(ordinal_++) : deal_.runs;
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
  __device__ uint32_t ordinal() const { return ordinal_; }

 private:
  const DecodeArgs& args_;
  const DecodeDeal& deal_;
  const RunQueue& queue_;
  int lane_;
  SegmentWalk segments_;
  uint32_t run_ = blockIdx.x;
  uint32_t ordinal_ = 0;
  bool done_ = false;
};

/// Where the copies are: the coming step of a warp.
template <int kWarps>
class StepWalk {
 public:
  __device__ StepWalk(const DecodeArgs& args, const DecodeDeal& deal, const RunQueue& queue,
                      int warp, int lane)
      : args_(args),
        deal_(deal),
        queue_(queue),
        warp_(warp),
        lane_(lane),
        taker_(warp == 0 && deal.runs > deal.workers),
        walk_(args, deal, queue, lane) {
    take();
  }

  /// Moves to the next step. True if the warp has a unit in it: its rows, and how many of its 16
  /// keys exist.
  __device__ bool next(UnitRows& rows, int32_t& keys) {
    pass_on();
    step_unit_ += kWarps;
    if (step_unit_ >= segment_.end_unit) {
      const uint32_t before = walk_.ordinal();
      if (!alive_ || !(alive_ = walk_.next(segment_))) return false;
      if (walk_.ordinal() != before) take();
      step_unit_ = segment_.base_unit;
      pages_.open(args_, segment_, step_unit_ + warp_, kWarps, lane_);
    }
    const int32_t unit = step_unit_ + warp_;
    if (pages_.exhausted()) pages_.open(args_, segment_, unit, kWarps, lane_);
    rows = pages_.next(args_, segment_, unit);
    keys = segment_.kv_len - unit * kDecodeUnit;
    return unit >= segment_.first_unit && unit < segment_.end_unit;
  }

 private:
  /// Asks for the next run while this one is worked on; the answer is passed on a step later.
  __device__ void take() {
    if (!taker_) return;
    if (lane_ == 0) taken_ = deal_.workers + atomicAdd(args_.tickets, 1);
    asked_ = true;
  }
  __device__ void pass_on() {
    if (!asked_) return;
    if (lane_ == 0) queue_.put(walk_.ordinal(), taken_);
    asked_ = false;
  }

  const DecodeArgs& args_;
  const DecodeDeal& deal_;
  const RunQueue& queue_;
  int warp_;
  int lane_;
  bool taker_;
  bool asked_ = false;
  bool alive_ = true;
  uint32_t taken_ = 0;
  RunWalk walk_;
  Segment segment_;
  PageWindow pages_;
  int32_t step_unit_ = 0;
};

/// The last CTA of the call to leave puts the counter back for the next call.
__device__ inline void leave(const DecodeArgs& args) {
  if (threadIdx.x != 0) return;
  if (foveal::cuda::atomic_inc_acq_rel(args.tickets + 1, gridDim.x - 1) == gridDim.x - 1)
    args.tickets[0] = 0;
}

}  // namespace foveal::kernels::cuda

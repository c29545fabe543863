#pragma once

#include "kernels/cuda/sm90/rocket_entries.cuh"

namespace foveal::kernels::cuda {

/// Blocks of kScoreBlock entries in one line (sequence, KV head, pass, position), an even share a
/// worker. KV heads of a sequence have as many entries each unless there are candidates: then each
/// is a "run" of blocks of its own, else all of a sequence's are.
class BlockWalk {
 public:
  __device__ BlockWalk(const RocketArgs& args, uint32_t worker, uint32_t workers, int lane)
      : heads_(args.candidates != nullptr ? 1 : args.num_kv_heads),
        runs_(args.decode.num_seqs * (args.num_kv_heads / heads_)) {
    uint32_t total = 0;
#pragma unroll 1
    for (int32_t run = lane; run < runs_; run += 32) total += run_blocks(args, run);
    total = __reduce_add_sync(~0U, total);
    const uint32_t share = (total + workers - 1) / workers;
    position_ = min(share * worker, total);
    end_ = min(position_ + share, total);
    if (position_ >= end_) return;
#pragma unroll 1
    while (true) {
      const uint32_t own = run_blocks(args, run_ + lane);
      uint32_t sum = own;
#pragma unroll
      for (int step = 1; step < 32; step *= 2) {
        const uint32_t other = __shfl_up_sync(~0U, sum, step);
        if (lane >= step) sum += other;
      }
      const uint32_t beyond = __ballot_sync(~0U, base_ + sum > position_);
      const int owner = beyond != 0 ? __ffs(static_cast<int>(beyond)) - 1 : 31;
      base_ += __shfl_sync(~0U, beyond != 0 ? sum - own : sum, owner);
      run_ += beyond != 0 ? owner : 32;
      if (beyond != 0) break;
    }
    enter(args);
  }

  __device__ bool next(const RocketArgs& args) {
    if (position_ >= end_) return false;
    const uint32_t passes = args.decode.passes.divisor;
#pragma unroll 1
    while (position_ - base_ >= a_pass_ * passes * static_cast<uint32_t>(heads_)) {
      base_ += a_pass_ * passes * static_cast<uint32_t>(heads_);
      ++run_;
      enter(args);
    }
    const uint32_t at = position_++ - base_;
    const uint32_t part = at / a_pass_;  // KV head and pass
    const int32_t of_run = static_cast<int32_t>(args.decode.passes.divide(part));
    pass = static_cast<int32_t>(part) - of_run * static_cast<int32_t>(passes);
    head = heads_ == 1 ? run_ % args.num_kv_heads : of_run;
    row = entries.seq * args.num_kv_heads + head;
    const int32_t before = query_;
    query_ = row * static_cast<int32_t>(passes) + pass;
    moved = query_ != before;
    scored = !entries.all(args);
    // All pages taken: one block, which brings the newest page's bounds up to date.
    block = scored ? static_cast<int32_t>(at % a_pass_) : (entries.count - 1) / kScoreBlock;
    return true;
  }

  Entries entries;
  int32_t head = 0;
  int32_t pass = 0;
  int32_t row = 0;  ///< (sequence, KV head)
  int32_t block = 0;
  bool scored = false;
  bool moved = false;  ///< to another row or pass

 private:
  __device__ static uint32_t pass_blocks(const RocketArgs& args, const Entries& entries) {
    if (entries.count == 0) return 0;
    return entries.all(args) ? 1
                             : static_cast<uint32_t>(entries.count + kScoreBlock - 1) / kScoreBlock;
  }
  __device__ Entries run_entries(const RocketArgs& args, int32_t run) const {
    if (heads_ > 1) return Entries::of(args, run, 0);
    return Entries::of(args, run / args.num_kv_heads, run % args.num_kv_heads);
  }
  __device__ uint32_t run_blocks(const RocketArgs& args, int32_t run) const {
    if (run >= runs_) return 0;
    return pass_blocks(args, run_entries(args, run)) * args.decode.passes.divisor *
           static_cast<uint32_t>(heads_);
  }
  __device__ void enter(const RocketArgs& args) {
    a_pass_ = 0;
    if (run_ >= runs_) return;
    entries = run_entries(args, run_);
    a_pass_ = pass_blocks(args, entries);
  }

  int32_t heads_;
  int32_t runs_;
  uint32_t position_ = 0;
  uint32_t end_ = 0;
  uint32_t base_ = 0;
  uint32_t a_pass_ = 0;
  int32_t run_ = 0;
  int32_t query_ = -1;
};

/// The same in units of kScoreUnit entries.
class UnitWalk {
 public:
  __device__ UnitWalk(const RocketArgs& args, uint32_t worker, uint32_t workers, int lane)
      : blocks(args, worker, workers, lane) {}

  __device__ bool next(const RocketArgs& args) {
    first += kScoreUnit;
    if (first < end_) return true;
    if (!blocks.next(args)) return false;
    const int32_t begin = blocks.block * kScoreBlock;
    end_ = min(begin + kScoreBlock, blocks.entries.count);
    first = blocks.scored ? begin : (blocks.entries.count - 1) / kScoreUnit * kScoreUnit;
    return true;
  }
  __device__ bool begins() const { return first % kScoreBlock == 0; }
  __device__ bool ends() const { return first + kScoreUnit >= end_; }

  BlockWalk blocks;
  int32_t first = 0;  ///< entry

 private:
  int32_t end_ = 0;
};

}  // namespace foveal::kernels::cuda

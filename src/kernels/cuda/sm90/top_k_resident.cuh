#pragma once

#include "kernels/cuda/device/bulk.cuh"
#include "kernels/cuda/device/pdl.cuh"
#include "kernels/cuda/sm90/top_k_run.cuh"

// Rows that a cluster's registers hold: each value is read once, and what CTAs have to know of one
// another goes by words straight into all of them, so that there is none through which everything
// has to pass. A word takes about 600 clocks from CTA to CTA, and many words take longer: what is
// exchanged is little, and work that can wait is done meanwhile.

namespace foveal::kernels::cuda::top_k {

inline constexpr int kLog2FewBins = 7;
inline constexpr int kFewBins = 1 << kLog2FewBins;
inline constexpr int kWholeShift = 32 - kLog2FewBins;  ///< of bins that cover every key
inline constexpr int kMostTies = 128;  ///< values of one bin that are put into order directly
inline constexpr int kGuesses = 32;    ///< of as many warps, over all CTAs
inline constexpr int kMostRuns = kMostCtas * kWarps;

/// Two means of keys, between which the last one taken is expected; 0, 0 where there are none.
struct Guess {
  uint32_t low;
  uint32_t high;
};

/// Of a CTA; what others write lies at the same place in all.
struct ResidentShared {
  uint4 keys[kLoads][kThreads];  ///< of each thread's values
  uint32_t bins[kFewBins];
  uint32_t counts[2][kMostCtas][kFewBins / 2];  ///< of each CTA's bins, two a word; by rounds
  uint32_t taken[kMostRuns];  ///< of each run: above the last bin, and in it << 16
  Entry ties[kMostTies];      ///< what lies in the last bin
  Guess guesses[kGuesses];
  uint32_t bin;  ///< that holds the last one taken, or kNowhere
  uint32_t above;
  uint32_t inside;
  uint32_t total;
  uint32_t placed;  ///< of this CTA's, among the ties
  Entry last;
  foveal::cuda::Barrier guessed;
  foveal::cuda::Barrier counted[2];
  foveal::cuda::Barrier told;  ///< ties and taken are complete
};

/// One row's selection, by a cluster.
class Resident {
 public:
  __device__ Resident(const TopKArgs& args, ResidentShared& shared)
      : args_(args),
        shared_(shared),
        ctas_(1 << args.log2_ctas),
        rank_(static_cast<int32_t>(foveal::cuda::cluster_rank())),
        thread_(static_cast<int32_t>(threadIdx.x)),
        warp_(static_cast<int32_t>(threadIdx.x / 32)),
        lane_(static_cast<int32_t>(threadIdx.x % 32)),
        run_(warp_ * ctas_ + rank_),
        own_(args, shared.keys[0], run_) {}

  __device__ void run() {
    wait_for_previous();
    let_next_start();
    const auto row_index = static_cast<int32_t>(blockIdx.x) >> args_.log2_ctas;
    const Row row = args_.call.starts == nullptr ? Row::longest(args_.call, row_index)
                                                 : Row::of(args_.call, row_index);
    own_.load(row);
    start();
    const int32_t length = Row::of(args_.call, row_index).length;
    own_.end(length);
    const int32_t count = min(args_.call.k, length);
    foveal::cuda::cluster_wait();
    if (count == length) {
      take_whole(Output::of(args_, row_index), count);
      if (rank_ == 0 && thread_ == 0) report(row_index, count);
      return;
    }
    need_ = static_cast<uint32_t>(count);
    guess(length, count);
    narrow();
    const bool ranked = shared_.inside != need_ && shared_.inside <= kMostTies;
    const uint32_t above = bracket_.top == ~0U ? 0 : own_.not_below(bracket_.top + 1);
    const uint32_t ties = own_.not_below(bracket_.low) & ~above;
    tell(above, ties, ranked);
    if (rank_ == 0 && thread_ == 0) report(row_index, count);
    const Output output = Output::of(args_, row_index);
    foveal::cuda::barrier_wait(&shared_.told, 0);
    if (ranked) rank();
    put(output, above, ties, ranked);
  }

 private:
  /// Keys low to top, counted in bins of 2^shift. What lies above all bins is in the last.
  struct Bracket {
    uint32_t low;
    uint32_t top;
    int shift;
    __device__ uint32_t bin(uint32_t key) const {
      return min((key - low) >> shift, static_cast<uint32_t>(kFewBins - 1));
    }
    /// Whether the last bin may hold more than its own.
    __device__ bool open() const { return (top - low) >> shift > kFewBins - 1; }
  };
  static constexpr uint32_t kNowhere = ~0U;

  __device__ void start() {
    if (thread_ < kFewBins) shared_.bins[thread_] = 0;
    if (thread_ == 0) {
      shared_.bin = kNowhere;
      shared_.placed = 0;
      foveal::cuda::barrier_init(&shared_.guessed, 1);
      foveal::cuda::barrier_arrive_expect(&shared_.guessed, kGuesses * sizeof(Guess));
      foveal::cuda::barrier_init(&shared_.counted[0], 1);
      foveal::cuda::barrier_init(&shared_.counted[1], 1);
      foveal::cuda::barrier_init(&shared_.told, 1);
      foveal::cuda::barrier_init_fence();
    }
    __syncthreads();
    foveal::cuda::cluster_arrive_relaxed();
  }

  __device__ void report(int32_t row, int32_t count) const {
    const foveal_top_k_params& p = args_.call;
    if (p.counts != nullptr) p.counts[row] = count;
    if (p.counters != nullptr) atomicAdd(reinterpret_cast<unsigned long long*>(p.counters), 1ULL);
  }

  __device__ void take_whole(const Output& output, int32_t count) const {
#pragma unroll 1
    for (int32_t at = rank_ * kThreads + thread_; at < args_.call.k;
         at += kThreads << args_.log2_ctas) {
      output.put(at, at < count ? at : -1);
    }
  }

  /// Sets the bracket about where the last one taken is expected. The mean of the greatest of every
  /// g values is about the (g / 0.56)-th greatest: with g such that two or three times `count`
  /// values are not below that, and four times as many, it lies between. From the first load, while
  /// the others come.
  __device__ void guess(int32_t length, int32_t count) {
    const float apart = __fdividef(static_cast<float>(length), static_cast<float>(4 * count));
    bracket_ = {0, ~0U, kWholeShift};
    if (apart >= 1 && ((warp_ + rank_) & (ctas_ / 2 - 1)) == 0) send_guess(apart);
    own_.keep_keys();
    if (apart < 1) return;
    foveal::cuda::barrier_wait(&shared_.guessed, 0);
    const Guess own = mean(shared_.guesses[lane_]);
    if (own.high == 0) return;
    const uint32_t width = max(own.high, own.low) - own.low;
    const uint32_t span = apart < 64 ? width + width / 2 : width * 16;
    bracket_.low = own.low;
    bracket_.shift = max(0, 32 - __clz(static_cast<int>(span)) - kLog2FewBins);
  }
  __device__ void send_guess(float apart) {
    const float4 v = own_.first_load();
    Guess own{any_key(v.x), any_key(fmaxf(fmaxf(v.x, v.y), fmaxf(v.z, v.w)))};
    const auto widen = [&](int from, int to) {
      own.low = own.high;
#pragma unroll
      for (int step = from; step < to; step *= 2) {
        own.high = max(own.high, __shfl_xor_sync(~0U, own.high, step));
      }
    };
    if (apart >= 4) widen(1, 4);
    if (apart >= 16) widen(4, 16);
    if (apart >= 64) widen(16, 32);
    uint2 sent{__reduce_add_sync(~0U, own.low >> 5), __reduce_add_sync(~0U, own.high >> 5)};
    if (!own_.full()) sent = {0, 0};
    const int32_t place = (rank_ * kGuesses >> args_.log2_ctas) + (warp_ >> (args_.log2_ctas - 1));
    if (lane_ < ctas_) {
      foveal::cuda::barrier_send_cluster(reinterpret_cast<uint2*>(&shared_.guesses[place]), sent,
                                         &shared_.guessed, static_cast<uint32_t>(lane_));
    }
    __syncwarp();
  }
  /// Of the warp's guesses that are; none far from the first counts as farther than half an octave.
  __device__ static Guess mean(const Guess& own) {
    const uint32_t valid = __ballot_sync(~0U, own.high != 0);
    if (valid == 0) return {0, 0};
    const int from = __ffs(static_cast<int>(valid)) - 1;
    const float share = __fdividef(1.0F, static_cast<float>(__popc(valid)));
    const auto of = [&](uint32_t key) {
      constexpr int kFar = 1 << 22;
      const uint32_t base = __shfl_sync(~0U, key, from);
      const int off = min(max(static_cast<int>(key - base), -kFar), kFar);
      const int sum = __reduce_add_sync(~0U, own.high != 0 ? off : 0);
      return base + static_cast<uint32_t>(__float2int_rd(static_cast<float>(sum) * share));
    };
    return {of(own.low), of(own.high)};
  }

  /// Narrows the bracket to the bin that holds the last one taken, until few values are left, or
  /// equals, or all of them are taken.
  __device__ void narrow() {
#pragma unroll 1
    for (uint32_t round = 0;; ++round) {
      Run::each(own_.not_below(bracket_.low), [&](int bit) {
        const uint32_t own = own_.key(bit);
        if (own <= bracket_.top) atomicAdd(&shared_.bins[bracket_.bin(own)], 1U);
      });
      __syncthreads();
      parity_ = round & 1;
      send_counts();
      if (warp_ == 0) {
        foveal::cuda::barrier_wait(&shared_.counted[parity_], round >> 1 & 1);
        find();
      }
      __syncthreads();
      if (shared_.bin != kNowhere) {
        need_ -= shared_.above;
        bracket_.low += shared_.bin << bracket_.shift;
        bracket_.top = bracket_.low + (1U << bracket_.shift) - 1;
        if (shared_.inside == need_ || shared_.inside <= kMostTies || bracket_.shift == 0) return;
        bracket_.shift = max(bracket_.shift - kLog2FewBins, 0);
      } else {
        widen();
      }
      if (thread_ < kFewBins) shared_.bins[thread_] = 0;
      __syncthreads();  // all have read what was found
      if (thread_ == 0) shared_.bin = kNowhere;
    }
  }

  /// Where the guess was wrong: the bins are wider and begin at the last of those, or before them.
  __device__ void widen() {
    if (shared_.total >= need_) {
      bracket_.low += static_cast<uint32_t>(kFewBins - 1) << bracket_.shift;
      bracket_.shift = min(bracket_.shift + 4, kWholeShift);
    } else {
      const uint64_t step = uint64_t{4 * kFewBins} << bracket_.shift;
      bracket_.low = bracket_.low > step ? bracket_.low - static_cast<uint32_t>(step) : 0;
      bracket_.shift = bracket_.low == 0 ? kWholeShift : min(bracket_.shift + 3, kWholeShift);
    }
  }

  __device__ void send_counts() {
    constexpr int kSenders = kFewBins / 8;
    foveal::cuda::Barrier* const counted = &shared_.counted[parity_];
    if (thread_ == 0) {
      foveal::cuda::barrier_arrive_expect(counted, static_cast<uint32_t>(ctas_) * kFewBins * 2);
    }
    const int peer = thread_ / kSenders;
    if (peer < ctas_) {
      const int from = thread_ % kSenders;
      const auto* bins = reinterpret_cast<const uint4*>(shared_.bins) + 2 * from;
      const uint4 a = bins[0];
      const uint4 b = bins[1];
      const uint4 packed{a.x | a.y << 16, a.z | a.w << 16, b.x | b.y << 16, b.z | b.w << 16};
      foveal::cuda::barrier_send_cluster(
          reinterpret_cast<uint4*>(shared_.counts[parity_][rank_]) + from, packed, counted,
          static_cast<uint32_t>(peer));
    }
    __syncwarp();
  }

  /// By one warp: the bin, from the highest, that holds value `need_` from the top.
  __device__ void find() {
    const int place = 31 - lane_;  // of four bins
    uint32_t own[4] = {};
#pragma unroll
    for (int cta = 0; cta < kMostCtas; cta += 4) {
      uint2 sum{0, 0};  // of four CTAs: no half overflows
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        if (cta + i >= ctas_) break;
        const uint2 two = reinterpret_cast<const uint2*>(shared_.counts[parity_][cta + i])[place];
        sum.x += two.x;
        sum.y += two.y;
      }
      own[0] += sum.y >> 16;
      own[1] += sum.y & 0xffffU;
      own[2] += sum.x >> 16;
      own[3] += sum.x & 0xffffU;
    }
    const uint32_t sum = own[0] + own[1] + own[2] + own[3];
    uint32_t through = sum;
#pragma unroll
    for (int step = 1; step < 32; step *= 2) {
      const uint32_t other = __shfl_up_sync(~0U, through, step);
      if (lane_ >= step) through += other;
    }
    if (lane_ == 31) shared_.total = through;
    uint32_t above = through - sum;
    if (above >= need_ || need_ > through) return;
    uint32_t bin = static_cast<uint32_t>(place * 4 + 3);
    uint32_t inside = own[0];
#pragma unroll
    for (int i = 1; i < 4; ++i) {
      if (need_ > above + inside) {
        above += inside;
        inside = own[i];
        --bin;
      }
    }
    if (bin == kFewBins - 1 && bracket_.open()) return;
    shared_.bin = bin;
    shared_.above = above;
    shared_.inside = inside;
  }

  /// Tells all CTAs how many of each run lie above the last bin and in it; if `ranked`, also what
  /// lies in it.
  __device__ void tell(uint32_t above, uint32_t ties, bool ranked) {
    const auto ctas = static_cast<uint32_t>(ctas_);
    if (thread_ == 0) {
      foveal::cuda::barrier_arrive_expect(
          &shared_.told,
          ctas * kWarps * 4 + (ranked ? shared_.inside * static_cast<uint32_t>(sizeof(Entry)) : 0));
    }
    const uint32_t taken =
        __reduce_add_sync(~0U, static_cast<uint32_t>(__popc(above) | __popc(ties) << 16));
    if (lane_ < ctas_) {
      foveal::cuda::barrier_send_cluster(&shared_.taken[run_], taken, &shared_.told,
                                         static_cast<uint32_t>(lane_));
    }
    __syncwarp();
    if (!ranked || taken >> 16 == 0) return;
    uint32_t place = 0;
    if (lane_ == 0) place = atomicAdd(&shared_.placed, taken >> 16);
    place = __shfl_sync(~0U, place, 0) + ties_before();
#pragma unroll 1
    for (uint32_t lanes; (lanes = __ballot_sync(~0U, ties != 0)) != 0; ++place) {
      const int from = __ffs(static_cast<int>(lanes)) - 1;
      const Entry own = own_.entry(max(__ffs(static_cast<int>(ties)) - 1, 0));
      const uint2 sent{__shfl_sync(~0U, own.key, from), __shfl_sync(~0U, own.index, from)};
      if (lane_ < ctas_) {
        foveal::cuda::barrier_send_cluster(reinterpret_cast<uint2*>(&shared_.ties[place]), sent,
                                           &shared_.told, static_cast<uint32_t>(lane_));
      }
      if (lane_ == from) ties &= ties - 1;
    }
  }

  /// Values in the bin found last of the CTAs before this one.
  __device__ uint32_t ties_before() const {
    uint32_t own = 0;
    if (lane_ < rank_) {
      const uint32_t two = shared_.counts[parity_][lane_][shared_.bin / 2];
      own = shared_.bin % 2 == 0 ? two & 0xffffU : two >> 16;
    }
    return __reduce_add_sync(~0U, own);
  }

  /// Finds the last one taken among the ties.
  __device__ void rank() {
    constexpr int kEach = kThreads / kMostTies;  // threads a tie
    const auto count = static_cast<int>(shared_.inside);
    const int own = thread_ / kEach;
    if (warp_ * (32 / kEach) < count) {
      const Entry mine = shared_.ties[min(own, count - 1)];
      uint32_t before = 0;
#pragma unroll 4
      for (int i = thread_ % kEach; i < count; i += kEach) {
        before += shared_.ties[i].beats(mine) ? 1 : 0;
      }
#pragma unroll
      for (int step = 1; step < kEach; step *= 2) before += __shfl_xor_sync(~0U, before, step);
      if (own < count && before == need_ - 1) shared_.last = mine;
    }
    __syncthreads();
  }

  __device__ void put(const Output& output, uint32_t above, uint32_t ties, bool ranked) {
    constexpr int kEach = kMostRuns / 32;
    uint32_t above_before = 0;
    uint32_t ties_before = 0;
    const auto* taken = reinterpret_cast<const uint4*>(shared_.taken) + lane_ * (kEach / 4);
#pragma unroll
    for (int i = 0; i < kEach; i += 4) {
      const uint4 four = taken[i / 4];
      const uint32_t own[4] = {four.x, four.y, four.z, four.w};
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const uint32_t one = lane_ * kEach + i + j < run_ ? own[j] : 0;
        above_before += one & 0xffffU;
        ties_before += one >> 16;
      }
    }
    uint32_t take = above;
    if (ranked) {
      const Entry last = shared_.last;
      ties_before = 0;
      const auto begin = static_cast<uint32_t>(max(own_.begin(), 0));
#pragma unroll 1
      for (uint32_t i = static_cast<uint32_t>(lane_); i < shared_.inside; i += 32) {
        const Entry tie = shared_.ties[i];
        ties_before += !last.beats(tie) && tie.index < begin ? 1 : 0;
      }
      Run::each(ties, [&](int bit) { take |= !last.beats(own_.entry(bit)) ? 1U << bit : 0; });
      __syncwarp();
    }
    ties_before = __reduce_add_sync(~0U, ties_before);
    const uint32_t base = __reduce_add_sync(~0U, above_before) + min(ties_before, need_);
    if (!ranked) {
      const Places places = Places::of(ties, lane_);
      Run::each(ties,
                [&](int bit) { take |= ties_before + places.at(bit) < need_ ? 1U << bit : 0; });
      __syncwarp();
    }
    const Places places = Places::of(take, lane_);
    Run::each(take, [&](int bit) {
      output.put(static_cast<int32_t>(base + places.at(bit)), own_.index(bit));
    });
  }

  const TopKArgs& args_;
  ResidentShared& shared_;
  int32_t ctas_;
  int32_t rank_;
  int32_t thread_;
  int32_t warp_;
  int32_t lane_;
  int32_t run_;  ///< of the warp: they are dealt out to CTAs in turn
  Run own_;
  Bracket bracket_{};
  uint32_t need_ = 0;    ///< values to take of the bracket
  uint32_t parity_ = 0;  ///< of the last round
};

}  // namespace foveal::kernels::cuda::top_k

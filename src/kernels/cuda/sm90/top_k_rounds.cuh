#pragma once

#include "kernels/cuda/sm90/top_k_shared.cuh"

namespace foveal::kernels::cuda::top_k {

/// Where a guess did not hold: the bin that has the last one taken, by counts of all CTAs, each
/// round over the bin that the one before found.
class Rounds {
 public:
  __device__ Rounds(ResidentShared& shared, const Run& own, int32_t log2_ctas, int32_t rank)
      : shared_(shared),
        own_(own),
        ctas_(1 << log2_ctas),
        rank_(rank),
        thread_(static_cast<int32_t>(threadIdx.x)),
        lane_(static_cast<int32_t>(threadIdx.x % 32)) {}

  /// From bins that begin at `from`: keys of which at most kMostTies are left, or all are equal, or
  /// all are taken, when `count` are. The bins are 0 behind it.
  __device__ Bracket narrow(const Bracket& from, uint32_t count) {
    bracket_ = from;
    need_ = count;
    __syncthreads();
    clear();
#pragma unroll 1
    for (uint32_t round = 0;; ++round) {
      __syncthreads();
      if (thread_ == 0) shared_.bin = kNowhere;
      Run::each(own_.split(bracket_.low, bracket_.top).inside,
                [&](int bit) { atomicAdd(&shared_.bins[bracket_.bin(own_.key(bit))], 1U); });
      __syncthreads();
      const uint32_t parity = round & 1;
      send_counts(parity);
      if (thread_ < 32) {
        foveal::cuda::barrier_wait(&shared_.counted[parity], round >> 1 & 1);
        find(parity);
      }
      __syncthreads();
      clear();
      if (shared_.bin == kNowhere) {
        widen();
        continue;
      }
      need_ -= shared_.above;
      bracket_.low += shared_.bin << bracket_.shift;
      bracket_.top = bracket_.low + min(bracket_.top - bracket_.low, (1U << bracket_.shift) - 1);
      if (shared_.inside == need_ || shared_.inside <= kMostTies || bracket_.shift == 0) break;
      bracket_.shift = max(bracket_.shift - kLog2FewBins, 0);
    }
    bracket_.shift = Bracket::shift_of_span(bracket_.top - bracket_.low);
    __syncthreads();
    return bracket_;
  }

 private:
  __device__ void clear() {
    if (thread_ < kFewBins) shared_.bins[thread_] = 0;
  }

  /// The bins are wider and begin at the last of those, or before them.
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

  __device__ void send_counts(uint32_t parity) {
    constexpr int kSenders = kFewBins / 8;
    foveal::cuda::Barrier* const counted = &shared_.counted[parity];
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
          reinterpret_cast<uint4*>(shared_.counts[parity][rank_]) + from, packed, counted,
          static_cast<uint32_t>(peer));
    }
    __syncwarp();
  }

  /// By one warp: the bin, from the highest, that holds value `need_` from the top.
  __device__ void find(uint32_t parity) {
    const int place = 31 - lane_;  // of four bins
    uint32_t own[4] = {};
#pragma unroll 1
    for (int cta = 0; cta < ctas_; ++cta) {
      const uint2 two = reinterpret_cast<const uint2*>(shared_.counts[parity][cta])[place];
      own[0] += two.y >> 16;
      own[1] += two.y & 0xffffU;
      own[2] += two.x >> 16;
      own[3] += two.x & 0xffffU;
    }
    const Place found = Place::of(own, need_);
    if (lane_ > 0) return;
    shared_.total = found.total;
    if (found.bin == kNowhere || (found.bin == kFewBins - 1 && bracket_.open())) return;
    shared_.bin = found.bin;
    shared_.above = found.above;
    shared_.inside = found.inside;
  }

  ResidentShared& shared_;
  const Run& own_;
  int32_t ctas_;
  int32_t rank_;
  int32_t thread_;
  int32_t lane_;
  Bracket bracket_{};
  uint32_t need_ = 0;  ///< values to take of the bracket
};

}  // namespace foveal::kernels::cuda::top_k

#pragma once

#include "kernels/cuda/device/bulk.cuh"
#include "kernels/cuda/device/cp_async.cuh"
#include "kernels/cuda/device/reduce.cuh"
#include "kernels/cuda/sm90/top_k_run.cuh"

// What the CTAs of a cluster that holds a row in its registers share with one another.

namespace foveal::kernels::cuda::top_k {

inline constexpr int kLog2FewBins = 7;
inline constexpr int kFewBins = 1 << kLog2FewBins;
inline constexpr int kWholeShift = 32 - kLog2FewBins;  ///< of bins that cover every key
inline constexpr int kMostTies = 128;     ///< values of one bin that are put into order directly
inline constexpr int kColumns = 64;       ///< groups of a CTA's samples
inline constexpr int kMostListed = 2048;  ///< values between the guesses, of all CTAs

/// Of a CTA's runs, and behind it its values between the guesses.
struct Found {
  uint16_t above[kWarps];   ///< each run's values above the upper guess
  uint16_t inside[kWarps];  ///< and between the guesses
  uint32_t listed;          ///< values behind this; may be more than fit
  uint32_t unused[3];

  __device__ Entry* entries() { return reinterpret_cast<Entry*>(this + 1); }
  __device__ const Entry* entries() const { return reinterpret_cast<const Entry*>(this + 1); }
  __device__ static constexpr uint32_t bytes(int32_t entries) {
    return static_cast<uint32_t>(sizeof(uint4)) *
           (kFoundWords + static_cast<uint32_t>(entries + 1) / 2);
  }
  static constexpr uint32_t kFoundWords = 5;  ///< of 16 bytes, before the entries
};
static_assert(sizeof(Found) == Found::kFoundWords * sizeof(uint4));

/// Which samples are taken, and which of their groups' greatest the guesses are: of m values the
/// greatest is below what a share p of all is not with probability (1 - p)^m, whatever they are.
struct Sampling {
  int32_t warps;  ///< of each CTA, which hold values
  int log2_each;  ///< samples of each for a group: 4 or 2, or 1, or fewer than one
  int32_t low;    ///< from 0 for the greatest
  int32_t high;
  bool open;  ///< nothing is above the upper guess, which says no more than where bins may end

  __device__ static Sampling of(int32_t length, int32_t count, const TopKArgs& args, int32_t rank) {
    const int log2_ctas = args.log2_ctas;
    Sampling out;
    out.warps = min(max(length >> (kLog2Block + args.log2_loads + log2_ctas), 1), kWarps);
    const auto n = static_cast<float>(length);
    const float share = __fdividef(static_cast<float>(count), n);
    const float most = __fdividef(n, static_cast<float>(count * out.warps));
    const int log2_most = (__float_as_int(most) >> 23) - 127;  // rounded down
    const int log2_least = __clz(out.warps) - 31;
    out.log2_each = min(max(log2_most, log2_least), args.log2_loads > 0 ? 2 : 1);
    const float members = static_cast<float>(out.warps) * exp2f(out.log2_each);
    const auto reached = [members](float p) {  // share of groups
      return 1 - exp2f(members * __log2f(fmaxf(1 - p, 0.0F)));
    };
    const float groups = static_cast<float>(kColumns << log2_ctas);
    out.open = count <= kFew;
    const float expected = reached(share);
    const float apart =
        kDeviations * exp2f(0.5F * __log2f(__fdividef(expected * (1 - expected), groups)));
    const float low = out.open ? reached(__fdividef(static_cast<float>(2 * count + kFew / 4), n))
                               : fminf(expected + apart, 1.0F);
    const float high = out.open ? 0 : expected - apart;
    // CTAs round differently: their mean is nearer than a whole group.
    const float turn =
        __fdividef(static_cast<float>(rank) + 0.5F, static_cast<float>(1 << log2_ctas));
    const auto place = [turn](float of) {
      return min(max(__float2int_rd(of * (kColumns + 1) + turn) - 1, 0), kColumns - 1);
    };
    out.low = place(low);
    out.high = place(high);
    out.open |= high * (kColumns + 1) < 1;
    return out;
  }

 private:
  static constexpr int kLog2Block = 7;
  static_assert(1 << kLog2Block == kBlock);
  static constexpr int32_t kFew = 256;
  static constexpr float kDeviations = 3.3F;
};

/// What is known of the bracket once all CTAs have told what lies in it.
struct alignas(16) Choice {
  enum How : uint32_t { kNotHere, kByIndex, kByRank };
  How how;
  int32_t need;     ///< values to take of those in the bracket
  uint32_t inside;  ///< values in it
  uint32_t bin;     ///< by rank: the bin that holds the last one taken,
  uint32_t tied;    ///< the values in it,
  uint32_t taken;   ///< and how many of them are taken
};

inline constexpr int kFoundBytes = kMostCtas * sizeof(Found) + kMostListed * sizeof(Entry);
inline constexpr int kOwnBytes = sizeof(Found) + kMostListed / 2 * sizeof(Entry);

/// Of a CTA; what others write lies at the same place in all.
struct ResidentShared {
  float4 values[kLoads][kThreads];
  unsigned char found[kFoundBytes];             ///< of each CTA, one behind the other
  unsigned char own[kOwnBytes];                 ///< this CTA's, before it is sent
  uint32_t counts[2][kMostCtas][kFewBins / 2];  ///< of each CTA's bins, two a word; by rounds
  uint32_t bins[kFewBins];
  uint32_t columns[kColumns];      ///< each group's greatest key
  uint32_t guesses[2][kMostCtas];  ///< the lower ones, the upper ones
  Entry ties[kMostTies];
  int32_t length;  ///< of the row
  Sampling sampling;
  uint32_t tied;
  Choice choice;
  uint32_t bin;  ///< that holds the last one taken, or kNowhere
  uint32_t above;
  uint32_t inside;
  uint32_t total;
  foveal::cuda::Barrier guessed;
  foveal::cuda::Barrier exchanged;
  foveal::cuda::Barrier counted[2];
};

inline constexpr uint32_t kNowhere = ~0U;

/// Keys low to top, and bins of 2^shift from low on. What lies above all bins is in the last.
struct Bracket {
  uint32_t low;
  uint32_t top;
  int shift;
  __device__ uint32_t bin(uint32_t key) const {
    return min((key - low) >> shift, static_cast<uint32_t>(kFewBins - 1));
  }
  /// Whether the last bin may hold more than its own.
  __device__ bool open() const { return (top - low) >> shift > kFewBins - 1; }
  /// The bins that cover a span from low on.
  __device__ static int shift_of_span(uint32_t span) {
    return max(0, 32 - __clz(static_cast<int>(span)) - kLog2FewBins);
  }
};

/// By a warp: which of kFewBins bins, from the highest, holds value `need` from the top.
struct Place {
  uint32_t bin;  ///< or kNowhere
  uint32_t above;
  uint32_t inside;
  uint32_t total;

  /// `own`: of bins 3 to 0 of four, the highest four in lane 0.
  __device__ static Place of(const uint32_t (&own)[4], uint32_t need) {
    const int lane = static_cast<int>(threadIdx.x % 32);
    const uint32_t sum = own[0] + own[1] + own[2] + own[3];
    const uint32_t through = warp_prefix_sum(sum, lane);
    Place out{kNowhere, through - sum, own[0], __shfl_sync(~0U, through, 31)};
    const uint32_t holds = __ballot_sync(~0U, through >= need);
    if (holds == 0) return out;
    const int from = __ffs(static_cast<int>(holds)) - 1;
    uint32_t bin = static_cast<uint32_t>((31 - lane) * 4 + 3);
#pragma unroll
    for (int i = 1; i < 4; ++i) {
      if (need > out.above + out.inside) {
        out.above += out.inside;
        out.inside = own[i];
        --bin;
      }
    }
    out.bin = __shfl_sync(~0U, bin, from);
    out.above = __shfl_sync(~0U, out.above, from);
    out.inside = __shfl_sync(~0U, out.inside, from);
    return out;
  }
};

}  // namespace foveal::kernels::cuda::top_k

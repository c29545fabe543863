#pragma once

#include "foveal/kernels_rocket.h"
#include "kernels/cuda/device/convert.cuh"
#include "kernels/cuda/device/pdl.cuh"
#include "kernels/cuda/radix_select.cuh"
#include "kernels/cuda/sm90/rocket_list.cuh"

namespace foveal::kernels::cuda {

/// Ranks and what is forced, which is above all: by how far they are above the least. Few bits are
/// left of keys that resemble one another, and those of the first digit tell them apart.
struct RankKeys {
  const float* ranks;
  uint32_t least;   ///< bits of the least and
  uint32_t forced;  ///< of the greatest rank, and one more, from the former
  __device__ uint32_t key(int32_t at) const {
    const uint32_t bits = __float_as_uint(ranks[at]);
    return bits == kForced ? forced : bits - least;
  }
  __device__ int width() const { return 32 - __clz(static_cast<int>(forced)); }

  static constexpr uint32_t kForced = 0x7f800000;  ///< infinity
};

/// Of a CTA; at the same place in all of a row.
struct ChooseShared {
  using Select = RadixSelect<kChooseThreads, true>::Shared;
  static constexpr int32_t kMostListed = 512;

  foveal::cuda::Barrier agreed;    ///< all CTAs' sums are here
  foveal::cuda::Barrier gathered;  ///< in the first CTA: what all have chosen is
  float warp_maxima[kChooseWarps][16];
  float largest[kMaxRocketHeads];            ///< of all entries
  unsigned long long sums[kMaxRocketHeads];  ///< of this CTA's, in steps of 2^-40
  unsigned long long part_sums[kMaxRocketHeads];
  float inverse[kMaxRocketHeads];  ///< of the sum of all
  uint32_t least[kChooseWarps];    ///< bits of the ranks that a warp has seen
  uint32_t greatest[kChooseWarps];
  int32_t listed[kMostListed];
  union {
    unsigned long long all_sums[kMostSelectCtas][kMaxRocketHeads];
    Select select;
  };
};
static_assert(sizeof(ChooseShared) <= kSelectStatic);

/// The beginning of dynamic shared memory; each function asks for itself, so that the compiler
/// knows what memory it is.
__device__ inline char* choose_memory() {
  extern __shared__ __align__(16) char memory[];
  return memory;
}
__device__ inline ChooseShared& choose_shared() {
  return *reinterpret_cast<ChooseShared*>(choose_memory());
}

/// A CTA's entries of a row.
struct EntrySlice {
  const float* logits;  ///< [heads, logits_pitch]
  int64_t logits_pitch;
  float* weights;  ///< [heads, weights_pitch]; may be the same memory
  int64_t weights_pitch;
  int32_t each;   ///< entries of a full slice
  int32_t begin;  ///< in the row
  int32_t count;
};

/// From logits to the list, by a CTA or a cluster of them. The largest logits are in shared memory.
/// What is read of the kernel's parameters is read once: behind a reference it would be read from
/// memory after each store.
template <bool kCluster>
class PageSelect {
 public:
  __device__ PageSelect(const RocketArgs& args, const Entries& entries, int32_t row,
                        const EntrySlice& slice)
      : shared_(choose_shared()),
        list_(args, entries, row % args.num_kv_heads),
        slice_(slice),
        heads_(args.heads),
        chosen_(args.topk - 1),
        older_(max(min(slice.count, entries.count - 1 - slice.begin), 0)),
        gather_offset_(args.gather_offset),
        largest_counts_((args.flags & FOVEAL_ROCKET_GROUP_MAX) != 0),
        ranks_(args.ranks != nullptr ? args.ranks + row * args.ranks_stride + slice.begin
                                     : nullptr),
        thread_(static_cast<int32_t>(threadIdx.x)),
        rank_(static_cast<int32_t>(blockIdx.x)) {}

  __device__ void run() {
    weigh();
    if constexpr (kCluster) share_sums();
    if (thread_ < heads_) {
      unsigned long long sum = shared_.sums[thread_];
      if constexpr (kCluster) {
        sum = 0;
        for (int32_t cta = 0; cta < ctas(); ++cta) sum += shared_.all_sums[cta][thread_];
      }
      shared_.inverse[thread_] = 1.0F / (static_cast<float>(sum) * 0x1p-40F);
    }
    __syncthreads();
    rank();
    // The newest page is in, whatever it scores; the others are chosen from those before it.
    if constexpr (kCluster) {
      if (gather_offset_ > 0) return choose_of_chosen();
      choose<true>(StridedValues{slice_.weights, 1}, older_, 32,
                   [&](uint32_t at, int32_t own) { put(at, slice_.begin + own); });
    } else {
      const RankKeys keys = keys_of(slice_.weights);
      choose<false>(keys, older_, keys.width(),
                    [&](uint32_t at, int32_t own) { put(at, slice_.begin + own); });
    }
    finish();
  }

 private:
  static constexpr int kAtOnce = 8;  ///< loads of a thread in flight

  __device__ static int32_t ctas() { return static_cast<int32_t>(gridDim.x); }

  /// Of what each CTA has a head, all have a copy afterwards.
  __device__ void share_sums() {
    constexpr int kWords = sizeof(unsigned long long) / sizeof(uint32_t);
    static_assert(kMaxRocketHeads * kWords <= kChooseThreads);
    const int32_t words = heads_ * kWords;
    __syncthreads();
    foveal::cuda::cluster_wait();  // all barriers are initialised
    if (thread_ == 0) {
      foveal::cuda::barrier_arrive_expect(&shared_.agreed,
                                          static_cast<uint32_t>(words * ctas()) * 4);
    }
    if (thread_ < words) {
      const uint32_t own = reinterpret_cast<const uint32_t*>(shared_.sums)[thread_];
      auto* to = reinterpret_cast<uint32_t*>(shared_.all_sums[rank_]) + thread_;
      for (int32_t cta = 0; cta < ctas(); ++cta) {
        foveal::cuda::barrier_send_cluster(to, own, &shared_.agreed, static_cast<uint32_t>(cta));
      }
    }
    __syncwarp();
    foveal::cuda::barrier_wait(&shared_.agreed, 0);
  }

  /// Weights from logits and their sums, which are integers, so that neither the number of CTAs
  /// nor the order shows. Warps share a head's entries where there are more of them than heads.
  __device__ void weigh() {
    const int lane = thread_ % 32;
    const int32_t parts = max(kChooseWarps / heads_, 1);
#pragma unroll 1
    for (int32_t task = thread_ / 32; task < heads_ * parts; task += kChooseWarps) {
      const int32_t h = task / parts;
      const float* from = slice_.logits + h * slice_.logits_pitch;
      float* to = slice_.weights + h * slice_.weights_pitch;
      const float largest = shared_.largest[h];
      const int32_t step = parts * 32;
      unsigned long long sum = 0;
#pragma unroll 1
      for (int32_t first = (task - h * parts) * 32 + lane; first < slice_.count;
           first += kAtOnce * step) {
        float own[kAtOnce];
#pragma unroll
        for (int i = 0; i < kAtOnce; ++i) {
          own[i] = first + i * step < slice_.count ? from[first + i * step] : -INFINITY;
        }
#pragma unroll
        for (int i = 0; i < kAtOnce; ++i) {
          const float weight = foveal::cuda::exp2_approx(own[i] - largest);
          if (first + i * step < slice_.count) to[first + i * step] = weight;
          sum += __float2ull_rn(weight * 0x1p40F);
        }
      }
      sum = warp_sum(sum);
      if (lane == 0) shared_.part_sums[task] = sum;
    }
    __syncthreads();
    if (thread_ < heads_) {
      unsigned long long sum = 0;
#pragma unroll 4
      for (int32_t part = 0; part < parts; ++part) {
        sum += shared_.part_sums[thread_ * parts + part];
      }
      shared_.sums[thread_] = sum;
    }
  }
  /// Of up to 2^56 a lane.
  __device__ static unsigned long long warp_sum(unsigned long long own) {
    constexpr uint32_t kLimb = (1U << 24) - 1;
    const uint32_t low = __reduce_add_sync(~0U, static_cast<uint32_t>(own) & kLimb);
    const uint32_t middle = __reduce_add_sync(~0U, static_cast<uint32_t>(own >> 24) & kLimb);
    const uint32_t high = __reduce_add_sync(~0U, static_cast<uint32_t>(own >> 48));
    return low + (static_cast<unsigned long long>(middle) << 24) +
           (static_cast<unsigned long long>(high) << 48);
  }

  /// Ranks in place of the first head's weights, for all to see.
  __device__ void rank() {
    constexpr int kRanks = kAtOnce / 2;
    uint32_t least = RankKeys::kForced;
    uint32_t greatest = 0;
#pragma unroll 1
    for (int32_t first = thread_; first < older_; first += kRanks * kChooseThreads) {
      float ranks[kRanks] = {};
#pragma unroll 2
      for (int32_t h = 0; h < heads_; ++h) {
        const float* weights = slice_.weights + h * slice_.weights_pitch;
        const float inverse = shared_.inverse[h];
#pragma unroll
        for (int i = 0; i < kRanks; ++i) {
          const int32_t at = first + i * kChooseThreads;
          const float weight = at < older_ ? weights[at] * inverse : 0;
          ranks[i] = largest_counts_ ? fmaxf(ranks[i], weight) : ranks[i] + weight;
        }
      }
#pragma unroll
      for (int i = 0; i < kRanks; ++i) {
        const int32_t at = first + i * kChooseThreads;
        if (at >= older_) break;
        if (ranks_ != nullptr) ranks_[at] = ranks[i];
        const bool forced = list_.forced(slice_.begin + at);
        slice_.weights[at] = forced ? INFINITY : ranks[i];
        if (!forced) see(ranks[i], least, greatest);
      }
    }
    share_range(least, greatest);
  }
  __device__ static void see(float rank, uint32_t& least, uint32_t& greatest) {
    least = min(least, __float_as_uint(rank));
    greatest = max(greatest, __float_as_uint(rank));
  }
  /// What all threads have seen, for keys_of.
  __device__ void share_range(uint32_t least, uint32_t greatest) {
    least = __reduce_min_sync(~0U, least);
    greatest = __reduce_max_sync(~0U, greatest);
    if (thread_ % 32 == 0) {
      shared_.least[thread_ / 32] = least;
      shared_.greatest[thread_ / 32] = greatest;
    }
    __syncthreads();
  }
  __device__ RankKeys keys_of(const float* ranks) const {
    const int warp = thread_ % kChooseWarps;
    const uint32_t least = __reduce_min_sync(~0U, shared_.least[warp]);
    const uint32_t greatest = __reduce_max_sync(~0U, shared_.greatest[warp]);
    return {ranks, least, greatest >= least ? greatest - least + 1 : 1};
  }

  /// put(position, index) of the best of `count` values, or of those of all CTAs, ascending.
  template <bool kTogether, class Values, class Put>
  __device__ void choose(const Values& values, int32_t count, int width, Put put) {
    using Select = RadixSelect<kChooseThreads, kTogether>;
    static_assert(sizeof(typename Select::Shared) == sizeof(shared_.select));
    Select select(reinterpret_cast<typename Select::Shared&>(shared_.select));
    const typename Select::Threshold threshold =
        select.threshold(values, count, static_cast<uint32_t>(chosen_), width);
    select.emit(values, count, threshold, put);
  }

  /// Each CTA sends its best to the first one, which chooses among those: an exchange less costly
  /// than counting together. They are in the order of entries, so of equals the lowest is taken.
  __device__ void choose_of_chosen() {
    const int32_t each = min(chosen_, slice_.each);
    const int32_t all = list_.count() - 1;
    auto* values = reinterpret_cast<float*>(choose_memory() + gather_offset_);
    auto* entries = reinterpret_cast<int32_t*>(values + ctas() * each);
    const auto send = [&](uint32_t at, int32_t own) {
      const auto place = static_cast<uint32_t>(rank_ * each) + at;
      foveal::cuda::barrier_send_cluster(reinterpret_cast<uint32_t*>(values) + place,
                                         __float_as_uint(slice_.weights[own]), &shared_.gathered,
                                         0);
      foveal::cuda::barrier_send_cluster(reinterpret_cast<uint32_t*>(entries) + place,
                                         static_cast<uint32_t>(slice_.begin + own),
                                         &shared_.gathered, 0);
    };
    if (older_ > chosen_) {
      const RankKeys keys = keys_of(slice_.weights);
      choose<false>(keys, older_, keys.width(), send);
    } else {
      for (int32_t at = thread_; at < older_; at += kChooseThreads) {
        send(static_cast<uint32_t>(at), at);
      }
    }
    if (rank_ != 0) return;
    const int32_t come = all / slice_.each * each + min(chosen_, all % slice_.each);
    if (thread_ == 0) {
      foveal::cuda::barrier_arrive_expect(&shared_.gathered, static_cast<uint32_t>(come) * 8);
    }
    __syncthreads();  // nobody still selects
    foveal::cuda::barrier_wait(&shared_.gathered, 0);
    uint32_t least = RankKeys::kForced;
    uint32_t greatest = 0;
    for (int32_t at = thread_; at < come; at += kChooseThreads) {
      if (__float_as_uint(values[at]) != RankKeys::kForced) see(values[at], least, greatest);
    }
    share_range(least, greatest);
    const RankKeys keys = keys_of(values);
    choose<false>(keys, come, keys.width(),
                  [&](uint32_t at, int32_t own) { put(at, entries[own]); });
    finish();
  }

  /// Where a page lies takes two reads in turn: for a list of usual length all at once, in finish.
  __device__ bool is_short() const { return chosen_ <= ChooseShared::kMostListed && gathers(); }
  __device__ bool gathers() const { return !kCluster || gather_offset_ > 0; }
  __device__ void put(uint32_t position, int32_t entry) const {
    if (is_short()) {
      shared_.listed[position] = entry;
    } else {
      list_.put(static_cast<int32_t>(position), entry);
    }
  }
  __device__ void finish() const {
    if (is_short()) {
      __syncthreads();
      for (int32_t at = thread_; at < chosen_; at += kChooseThreads) {
        list_.put(at, shared_.listed[at]);
      }
    }
    if (rank_ == 0 && thread_ == kChooseThreads - 1) list_.put(chosen_, list_.count() - 1);
  }

  ChooseShared& shared_;
  const ListWriter list_;
  const EntrySlice slice_;
  int32_t heads_;
  int32_t chosen_;  ///< beside the newest page
  int32_t older_;   ///< entries before it
  int32_t gather_offset_;
  bool largest_counts_;
  float* ranks_;
  int32_t thread_;
  int32_t rank_;
};

}  // namespace foveal::kernels::cuda

#pragma once

#include "foveal/kernels_rocket.h"
#include "kernels/cuda/device/convert.cuh"
#include "kernels/cuda/device/pdl.cuh"
#include "kernels/cuda/radix_select.cuh"
#include "kernels/cuda/sm90/rocket_entries.cuh"

namespace foveal::kernels::cuda {

/// The list of one (sequence, KV head), written entry by entry.
class ListWriter {
 public:
  __device__ ListWriter(const RocketArgs& args, const Entries& entries, int32_t head)
      : args_(args),
        entries_(entries),
        head_(head),
        row_(static_cast<int64_t>(entries.seq) * args.num_kv_heads + head) {}

  __device__ void put(int32_t position, int32_t entry) const {
    const int32_t page = entries_.page(entry);
    args_.slots[row_ * args_.topk + position] = entries_.slot(args_, page);
    if (args_.pages != nullptr) args_.pages[row_ * args_.pages_stride + position] = page;
  }
  /// Sinks and recent pages.
  __device__ bool forced(int32_t entry) const {
    return entry < args_.sink_pages || entry >= entries_.count - args_.recent_pages;
  }
  /// By one thread.
  __device__ void finish() const {
    const int32_t length = entries_.list_length(args_);
    args_.row_lengths[row_] = length;
    if (args_.count != nullptr) args_.count[row_] = min(entries_.count, args_.topk);
    if (head_ == 0) args_.lengths[entries_.seq] = longest();
    if (args_.decode.counters == nullptr) return;
    unsigned long long* counters = args_.decode.counters + static_cast<int64_t>(entries_.seq) * 4;
    const auto add = [&](int which, int64_t by) {
      atomicAdd(counters + which, static_cast<unsigned long long>(by));
    };
    add(0, int64_t{entries_.kv_len} * args_.heads);
    add(1, int64_t{length} * args_.heads);
    add(2, entries_.pages);
    add(3, entries_.pages - min(entries_.count, args_.topk));
  }

 private:
  /// KV heads differ where candidates are fewer than topk.
  __device__ int32_t longest() const {
    int32_t most = entries_.list_length(args_);
    for (int32_t head = 1; entries_.candidates != nullptr && head < args_.num_kv_heads; ++head) {
      most = max(most, Entries::of(args_, entries_.seq, head).list_length(args_));
    }
    return most;
  }

  const RocketArgs& args_;
  const Entries& entries_;
  int32_t head_;
  int64_t row_;
};

/// Of a CTA; at the same place in all of a row.
struct ChooseShared {
  using Select = RadixSelect<kChooseThreads, true>::Shared;

  Entries entries;
  foveal::cuda::Barrier agreed[2];  ///< all CTAs' maxima, all CTAs' sums are here
  float warp_maxima[kChooseWarps][16];
  float maxima[kMaxRocketHeads];             ///< of this CTA's entries
  unsigned long long sums[kMaxRocketHeads];  ///< likewise, in steps of 2^-40
  unsigned long long part_sums[kMaxRocketHeads];
  float largest[kMaxRocketHeads];  ///< of all
  float inverse[kMaxRocketHeads];  ///< of the sum of all
  float all_maxima[kMostChooseCtas][kMaxRocketHeads];
  union {
    unsigned long long all_sums[kMostChooseCtas][kMaxRocketHeads];
    Select select;
  };
};
inline constexpr size_t kChooseOpened = 18 * 1024;  ///< where the opened queries lie
static_assert(sizeof(ChooseShared) <= kChooseOpened);

/// The beginning of dynamic shared memory; each function asks for itself, so that the compiler
/// knows what memory it is.
__device__ inline char* choose_memory() {
  extern __shared__ __align__(16) char memory[];
  return memory;
}
__device__ inline ChooseShared& choose_shared() {
  return *reinterpret_cast<ChooseShared*>(choose_memory());
}

/// From logits to the list, by a CTA or a cluster of them.
template <bool kCluster>
class PageSelect {
 public:
  /// `logits` [heads, pitch] of this CTA's entries [begin, begin + count); their maxima are in
  /// `shared`.
  __device__ PageSelect(const RocketArgs& args, int32_t row, float* logits, int32_t begin,
                        int32_t count)
      : args_(args),
        shared_(choose_shared()),
        entries_(shared_.entries),
        list_(args, entries_, row % args.num_kv_heads),
        row_(row),
        logits_(logits),
        begin_(begin),
        count_(count),
        thread_(static_cast<int32_t>(threadIdx.x)) {}

  __device__ void run() {
    if constexpr (kCluster) foveal::cuda::cluster_wait();  // all barriers are initialised
    agree(shared_.maxima, shared_.all_maxima, shared_.agreed[0]);
    if (thread_ < args_.heads) {
      float largest = shared_.maxima[thread_];
      for (int32_t cta = 0; cta < ctas(); ++cta) {
        largest = fmaxf(largest, shared_.all_maxima[cta][thread_]);
      }
      shared_.largest[thread_] = largest;
    }
    __syncthreads();
    weigh();
    agree(shared_.sums, shared_.all_sums, shared_.agreed[1]);
    if (thread_ < args_.heads) {
      unsigned long long sum = kCluster ? 0 : shared_.sums[thread_];
      for (int32_t cta = 0; cta < ctas(); ++cta) sum += shared_.all_sums[cta][thread_];
      shared_.inverse[thread_] = 1.0F / (static_cast<float>(sum) * 0x1p-40F);
    }
    __syncthreads();
    // The newest page is in, whatever it scores.
    const int32_t older = max(min(count_, entries_.count - 1 - begin_), 0);
    rank(older);
    using Select = RadixSelect<kChooseThreads, kCluster>;
    static_assert(sizeof(typename Select::Shared) == sizeof(shared_.select));
    Select select(reinterpret_cast<typename Select::Shared&>(shared_.select));
    const StridedValues values{logits_, 1};
    const typename Select::Threshold threshold =
        select.threshold(values, older, static_cast<uint32_t>(args_.topk - 1));
    select.emit(values, older, threshold, [&](uint32_t position, int32_t at) {
      list_.put(static_cast<int32_t>(position), begin_ + at);
    });
  }

 private:
  /// Of what each CTA has a head, all have a copy afterwards.
  template <class Part>
  __device__ void agree(const Part* parts, Part (*all)[kMaxRocketHeads],
                        foveal::cuda::Barrier& barrier) {
    __syncthreads();
    if constexpr (kCluster) {
      constexpr int kWords = sizeof(Part) / sizeof(uint32_t);
      const int32_t words = args_.heads * kWords;
      static_assert(kMaxRocketHeads * kWords <= kChooseThreads);
      if (thread_ == 0) {
        foveal::cuda::barrier_arrive_expect(&barrier, static_cast<uint32_t>(words * ctas()) * 4);
      }
      if (thread_ < words) {
        const uint32_t own = reinterpret_cast<const uint32_t*>(parts)[thread_];
        auto* to = reinterpret_cast<uint32_t*>(all[blockIdx.x]) + thread_;
        for (int32_t cta = 0; cta < ctas(); ++cta) {
          foveal::cuda::barrier_send_cluster(to, own, &barrier, static_cast<uint32_t>(cta));
        }
      }
      __syncwarp();
      foveal::cuda::barrier_wait(&barrier, 0);
    }
  }
  __device__ static int32_t ctas() { return kCluster ? static_cast<int32_t>(gridDim.x) : 0; }

  /// Weights in place of logits and their sums, which are integers, so that neither the number of
  /// CTAs nor the order shows. Warps share a head's entries where there are more of them than
  /// heads.
  __device__ void weigh() {
    const int lane = thread_ % 32;
    const int32_t parts = max(kChooseWarps / args_.heads, 1);
#pragma unroll 1
    for (int32_t task = thread_ / 32; task < args_.heads * parts; task += kChooseWarps) {
      const int32_t h = task / parts;
      float* own = logits_ + static_cast<int64_t>(h) * args_.logits_pitch;
      const float largest = shared_.largest[h];
      unsigned long long sum = 0;
#pragma unroll 1
      for (int32_t at = (task - h * parts) * 32 + lane; at < count_; at += parts * 32) {
        const float weight = foveal::cuda::exp2_approx(own[at] - largest);
        own[at] = weight;
        sum += __float2ull_rn(weight * 0x1p40F);
      }
      sum = warp_sum(sum);
      if (lane == 0) shared_.part_sums[task] = sum;
    }
    __syncthreads();
    if (thread_ >= args_.heads) return;
    unsigned long long sum = 0;
#pragma unroll 1
    for (int32_t part = 0; part < parts; ++part) sum += shared_.part_sums[thread_ * parts + part];
    shared_.sums[thread_] = sum;
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

  /// Ranks in place of the first head's weights.
  __device__ void rank(int32_t older) {
#pragma unroll 1
    for (int32_t at = thread_; at < older; at += kChooseThreads) {
      float rank = 0;
#pragma unroll 2
      for (int32_t h = 0; h < args_.heads; ++h) {
        const float weight =
            logits_[static_cast<int64_t>(h) * args_.logits_pitch + at] * shared_.inverse[h];
        rank = (args_.flags & FOVEAL_ROCKET_GROUP_MAX) != 0 ? fmaxf(rank, weight) : rank + weight;
      }
      if (args_.ranks != nullptr) args_.ranks[row_ * args_.ranks_stride + begin_ + at] = rank;
      logits_[at] = list_.forced(begin_ + at) ? INFINITY : rank;
    }
    __syncthreads();
  }

  const RocketArgs& args_;
  ChooseShared& shared_;
  const Entries entries_;
  const ListWriter list_;
  int32_t row_;
  float* logits_;
  int32_t begin_;
  int32_t count_;
  int32_t thread_;
};

/// Apart from the scores, which are compiled for many shapes.
template <bool kCluster>
__device__ __noinline__ void select_pages(const RocketArgs& args, int32_t row, float* logits,
                                          int32_t begin, int32_t count) {
  PageSelect<kCluster>(args, row, logits, begin, count).run();
}

}  // namespace foveal::kernels::cuda

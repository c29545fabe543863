#pragma once

#include "kernels/cuda/sm90/rocket_entries.cuh"

namespace foveal::kernels::cuda {

/// The list of one (sequence, KV head), written entry by entry. Holds what it needs of the kernel's
/// parameters.
class ListWriter {
 public:
  __device__ ListWriter(const RocketArgs& args, const Entries& entries, int32_t head)
      : candidates_(entries.candidates),
        listed_(entries.listed),
        own_(entries.own),
        count_(entries.count),
        sink_(args.sink_pages),
        recent_(args.recent_pages),
        shift_(args.decode.page_shift - args.slot_shift),
        table_(args.decode.page_table + entries.seq * args.decode.page_table_stride) {
    const int64_t row = static_cast<int64_t>(entries.seq) * args.num_kv_heads + head;
    slots_ = args.slots + row * args.topk;
    pages_ = args.pages != nullptr ? args.pages + row * args.pages_stride : nullptr;
  }

  __device__ void put(int32_t position, int32_t entry) const {
    const int32_t page = entry < listed_ ? candidates_[entry] : own_ + entry - listed_;
    slots_[position] = (table_[page >> shift_] << shift_) + (page & ((1 << shift_) - 1));
    if (pages_ != nullptr) pages_[position] = page;
  }
  /// Sinks and recent pages.
  __device__ bool forced(int32_t entry) const { return entry < sink_ || entry >= count_ - recent_; }
  __device__ int32_t count() const { return count_; }

 private:
  const int32_t* candidates_;
  int32_t listed_;
  int32_t own_;
  int32_t count_;
  int32_t sink_;
  int32_t recent_;
  int32_t shift_;
  const int32_t* table_;
  int32_t* slots_;
  int32_t* pages_;
};

/// KV heads differ where candidates are fewer than topk.
__device__ inline int32_t longest_list(const RocketArgs& args, const Entries& entries) {
  int32_t most = entries.list_length(args);
  for (int32_t head = 1; entries.candidates != nullptr && head < args.num_kv_heads; ++head) {
    most = max(most, Entries::of(args, entries.seq, head).list_length(args));
  }
  return most;
}

/// The list's lengths, by one thread.
__device__ inline void put_lengths(const RocketArgs& args, const Entries& entries, int32_t head) {
  const int64_t row = static_cast<int64_t>(entries.seq) * args.num_kv_heads + head;
  const int32_t length = entries.list_length(args);
  args.row_lengths[row] = length;
  if (args.count != nullptr) args.count[row] = min(entries.count, args.topk);
  if (head == 0) args.lengths[entries.seq] = longest_list(args, entries);
  if (args.decode.counters == nullptr) return;
  unsigned long long* counters = args.decode.counters + static_cast<int64_t>(entries.seq) * 4;
  const auto add = [&](int which, int64_t by) {
    atomicAdd(counters + which, static_cast<unsigned long long>(by));
  };
  add(0, int64_t{entries.kv_len} * args.heads);
  add(1, int64_t{length} * args.heads);
  add(2, entries.pages);
  add(3, entries.pages - min(entries.count, args.topk));
}

/// Lists what needs no ranks: all entries, or the newest alone. By all CTAs of a row.
__device__ inline void list_plainly(const RocketArgs& args, const Entries& entries,
                                    const ListWriter& list) {
  const int32_t first = entries.all(args) ? 0 : entries.count - 1;
  const auto ctas = static_cast<int32_t>(gridDim.x);
  for (auto at = first + static_cast<int32_t>(blockIdx.x * kChooseThreads + threadIdx.x);
       at < entries.count; at += ctas * kChooseThreads) {
    list.put(at - first, at);
  }
}

}  // namespace foveal::kernels::cuda

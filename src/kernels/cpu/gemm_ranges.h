#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>

namespace foveal::kernels::cpu {

/// Tasks [0, total) as one range a worker, so that each streams through its own part of the weights
/// and what it fetched ahead is what it reads next; who is done takes from the others' ranges.
class WorkRanges {
 public:
  WorkRanges(int64_t total, int workers)
      : callers_(std::min<int64_t>(total, workers)), count_(std::min(callers_, kMaxRanges)) {
    for (int64_t idx = 0; idx < count_; ++idx) {
      ranges_[idx].next.store(total * idx / count_, std::memory_order_relaxed);
      ranges_[idx].end = total * (idx + 1) / count_;
    }
  }

  /// Callers of `take` worth having; any number is right.
  int64_t callers() const { return callers_; }

  /// The next task of range `home`, else of any other; -1 when none is left.
  int64_t take(int64_t home) {
    for (int64_t idx = 0; idx < count_; ++idx) {
      Range& range = ranges_[(home + idx) % count_];
      if (range.next.load(std::memory_order_relaxed) >= range.end) continue;
      const int64_t task = range.next.fetch_add(1, std::memory_order_relaxed);
      if (task < range.end) return task;
    }
    return -1;
  }

 private:
  static constexpr int64_t kMaxRanges = 64;
  struct alignas(64) Range {
    std::atomic<int64_t> next{0};
    int64_t end = 0;
  };
  int64_t callers_ = 0;
  int64_t count_ = 0;
  std::array<Range, kMaxRanges> ranges_;
};

}  // namespace foveal::kernels::cpu

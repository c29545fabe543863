#pragma once

#include <atomic>
#include <cstdint>
#include <optional>

namespace foveal::server {

/// How many completions may be worked on and wait at once. Any thread.
class Admission {
 public:
  explicit Admission(int64_t limit) : limit_(limit) {}

  /// Places held until it is destroyed; the admission outlives it.
  class Slot {
   public:
    Slot(Admission& owner, int64_t count) : owner_(&owner), count_(count) {}
    Slot(Slot&& other) noexcept;
    Slot& operator=(Slot&& other) noexcept;
    ~Slot();

   private:
    void release();
    Admission* owner_;
    int64_t count_;
  };

  /// Nothing when they do not fit. A request larger than the limit fits when it is alone.
  std::optional<Slot> enter(int64_t count);
  int64_t in_flight() const { return in_flight_.load(); }
  int64_t limit() const { return limit_; }

 private:
  int64_t limit_;
  std::atomic<int64_t> in_flight_{0};
};

}  // namespace foveal::server

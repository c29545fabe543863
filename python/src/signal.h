#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <set>
#include <vector>

namespace foveal::python {

/// Which of a set of requests have more to take. The engine's thread raises it without the GIL, so
/// a busy interpreter never holds up a step; Python waits on it, or watches its descriptor in an
/// event loop. Shared by its requests and its waiter.
class Signal {
 public:
  Signal() = default;
  ~Signal();
  Signal(const Signal&) = delete;
  Signal& operator=(const Signal&) = delete;

  void raise(uint64_t request);
  /// The requests raised since the last call, and forgets them.
  std::vector<uint64_t> take();
  /// True when there is something to take within `limit`.
  bool wait_for(std::chrono::nanoseconds limit);
  /// Readable while there is something to take. Made on the first call.
  int descriptor();

 private:
  void tell();

  std::mutex mutex_;
  std::condition_variable changed_;
  std::set<uint64_t> ready_;
  int descriptor_ = -1;
};

/// What Python holds: a plain shared pointer, so that the engine's thread may drop the last one.
struct SignalHandle {
  std::shared_ptr<Signal> signal = std::make_shared<Signal>();
};

}  // namespace foveal::python

#include "base/thread_pool.h"

#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "base/check.h"

namespace foveal {
namespace {

// About 20 us of pauses: longer than the gap between two regions of a decode step, shorter than
// what a neighbour would notice. Spinning on would starve the caller when cores are shared.
constexpr int kSpins = 4000;

void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

int usable_cores() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof(set), &set) == 0) return std::max(1, CPU_COUNT(&set));
  return std::max(1U, std::thread::hardware_concurrency());
}

}  // namespace

struct ThreadPool::Impl {
  const std::function<void(int64_t, int)>* task = nullptr;
  int64_t count = 0;
  std::atomic<uint32_t> epoch{0};  // odd numbers of regions are fine: only changes matter
  std::atomic<bool> stop{false};
  alignas(64) std::atomic<int64_t> next{0};
  alignas(64) std::atomic<int> running{0};
  std::mutex error_mutex;
  std::exception_ptr error;
  std::vector<std::thread> threads;

  // Also when a thread could not be started: those before it must be joined.
  ~Impl() {
    stop.store(true);
    epoch.fetch_add(1, std::memory_order_release);
    epoch.notify_all();
    for (std::thread& thread : threads) thread.join();
  }

  void start(int total) {
    threads.reserve(static_cast<size_t>(total));
    for (int worker = 1; worker < total; ++worker) {
      try {
        threads.emplace_back([this, worker] {
          pthread_setname_np(pthread_self(), "foveal-worker");
          loop(worker);
        });
      } catch (const std::system_error& refused) {
        fail(ErrorKind::kOutOfMemory, "threads",
             "got '{}' when starting thread {} of {}; need fewer threads, or higher limits",
             refused.code().message(), worker + 1, total);
      }
    }
  }

  void work(int worker) {
    try {
      for (int64_t idx = next.fetch_add(1); idx < count; idx = next.fetch_add(1)) {
        (*task)(idx, worker);
      }
    } catch (...) {
      const std::lock_guard lock(error_mutex);
      if (!error) error = std::current_exception();
      next.store(count);
    }
  }

  void loop(int worker) {
    uint32_t seen = 0;
    while (true) {
      for (int spin = 0; spin < kSpins && epoch.load(std::memory_order_acquire) == seen; ++spin) {
        pause();
      }
      while (epoch.load(std::memory_order_acquire) == seen) epoch.wait(seen);
      seen = epoch.load(std::memory_order_acquire);
      if (stop.load()) return;
      work(worker);
      if (running.fetch_sub(1, std::memory_order_acq_rel) == 1) running.notify_one();
    }
  }
};

ThreadPool::ThreadPool(int num_threads) {
  FOVEAL_CHECK(num_threads >= 0 && num_threads <= 1024, ErrorKind::kInvalidArgument, "threads",
               "got {}; need 0 (all cores) to 1024", num_threads);
  const int total = num_threads == 0 ? usable_cores() : num_threads;
  impl_ = std::make_unique<Impl>();
  impl_->start(total);
}

ThreadPool::~ThreadPool() = default;

int ThreadPool::num_threads() const { return static_cast<int>(impl_->threads.size()) + 1; }

void ThreadPool::run(int64_t count, const std::function<void(int64_t, int)>& task) {
  if (count <= 0) return;
  Impl& impl = *impl_;
  impl.task = &task;
  impl.count = count;
  impl.next.store(0, std::memory_order_relaxed);
  const int helpers = static_cast<int>(impl.threads.size());
  if (helpers > 0 && count > 1) {
    impl.running.store(helpers, std::memory_order_relaxed);
    impl.epoch.fetch_add(1, std::memory_order_release);
    impl.epoch.notify_all();
    impl.work(0);
    for (int spin = 0; spin < kSpins && impl.running.load(std::memory_order_acquire) != 0; ++spin) {
      pause();
    }
    for (int left = impl.running.load(std::memory_order_acquire); left != 0;
         left = impl.running.load(std::memory_order_acquire)) {
      impl.running.wait(left);
    }
  } else {
    impl.work(0);
  }
  if (impl.error) std::rethrow_exception(std::exchange(impl.error, nullptr));
}

}  // namespace foveal

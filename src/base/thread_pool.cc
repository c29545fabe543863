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

// A region is open while `ticket` has an index to give: its high half is the region's number, its
// low half the next index. Task and count are written only while it is closed, so a thread whose
// exchange succeeds has read those of the region it takes from. The caller waits for indices, not
// for threads: a helper that the system woke too late finds the region closed, and nobody waited
// for it.
struct ThreadPool::Impl {
  static constexpr uint64_t kIndexMask = 0xffffffff;
  static constexpr uint64_t kClosed = kIndexMask;

  std::atomic<const std::function<void(int64_t, int)>*> task{nullptr};
  std::atomic<uint32_t> count{0};
  std::atomic<bool> failed{false};
  alignas(64) std::atomic<uint64_t> ticket{kClosed};
  alignas(64) std::atomic<uint32_t> done{0};
  alignas(64) std::atomic<uint32_t> epoch{0};  // regions so far: what helpers sleep on
  std::atomic<bool> stop{false};
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

  void open(uint32_t items, const std::function<void(int64_t, int)>& region_task) {
    task.store(&region_task, std::memory_order_relaxed);
    // Released: whoever reads this count knows the ticket closed before it, and takes nothing by an
    // older one.
    count.store(items, std::memory_order_release);
    failed.store(false, std::memory_order_relaxed);
    done.store(0, std::memory_order_relaxed);
    const uint64_t number = epoch.load(std::memory_order_relaxed) + uint64_t{1};
    ticket.store(number << 32, std::memory_order_release);
    epoch.fetch_add(1, std::memory_order_release);
  }

  void close() { ticket.fetch_or(kClosed, std::memory_order_relaxed); }

  /// Takes an index of the open region, if there is one.
  bool take(uint32_t* idx, const std::function<void(int64_t, int)>** region_task) {
    uint64_t seen = ticket.load(std::memory_order_acquire);
    while (true) {
      const auto next = static_cast<uint32_t>(seen & kIndexMask);
      *region_task = task.load(std::memory_order_relaxed);
      if (next >= count.load(std::memory_order_acquire)) return false;  // kClosed is past any count
      if (ticket.compare_exchange_weak(seen, seen + 1, std::memory_order_acq_rel,
                                       std::memory_order_acquire)) {
        *idx = next;
        return true;
      }
    }
  }

  void work(int worker) {
    uint32_t finished = 0;
    uint32_t idx = 0;
    const std::function<void(int64_t, int)>* region_task = nullptr;
    while (take(&idx, &region_task)) {
      finished += 1;
      if (failed.load(std::memory_order_relaxed)) continue;
      try {
        (*region_task)(idx, worker);
      } catch (...) {
        const std::lock_guard lock(error_mutex);
        if (!error) error = std::current_exception();
        failed.store(true, std::memory_order_relaxed);
      }
    }
    if (finished == 0) return;
    // The region stays open until these are counted, so `count` is still its own.
    const uint32_t all = count.load(std::memory_order_relaxed);
    if (done.fetch_add(finished, std::memory_order_acq_rel) + finished == all) done.notify_one();
  }

  void wait_done(uint32_t items) {
    for (int spin = 0; spin < kSpins && done.load(std::memory_order_acquire) != items; ++spin) {
      pause();
    }
    for (uint32_t now = done.load(std::memory_order_acquire); now != items;
         now = done.load(std::memory_order_acquire)) {
      done.wait(now);
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
  if (count == 1 || impl.threads.empty()) {
    for (int64_t idx = 0; idx < count; ++idx) task(idx, 0);
    return;
  }
  FOVEAL_INVARIANT(count < static_cast<int64_t>(Impl::kClosed));
  const auto items = static_cast<uint32_t>(count);
  impl.open(items, task);
  impl.epoch.notify_all();
  impl.work(0);
  impl.wait_done(items);
  impl.close();
  if (impl.error) std::rethrow_exception(std::exchange(impl.error, nullptr));
}

}  // namespace foveal

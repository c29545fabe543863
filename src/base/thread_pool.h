#pragma once

#include <cstdint>
#include <functional>
#include <memory>

namespace foveal {

/// A fixed team for fork-join regions. The caller is worker 0, so a pool of one runs inline.
///
/// Workers spin briefly before they sleep on a futex: a region costs about half a microsecond when
/// regions follow each other. A region ends when its indices are done, not when its workers are
/// awake: on a core that somebody else keeps busy, the others do the work.
/// Only one thread may call `run` at a time (the engine thread, or a test).
class ThreadPool {
 public:
  /// `num_threads` 0 means one a core this process may use.
  explicit ThreadPool(int num_threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int num_threads() const;

  /// Calls `task(index, worker)` for every index in [0, count), handed out one by one in ascending
  /// order; which worker gets which index varies, so results must not depend on it. Returns when
  /// all are done. An exception from a task is rethrown here, after the others have finished.
  void run(int64_t count, const std::function<void(int64_t index, int worker)>& task);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace foveal

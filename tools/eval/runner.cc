#include "eval/runner.h"

#include <atomic>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>

#include "base/check.h"
#include "base/log.h"
#include "base/progress.h"

namespace foveal::eval {
namespace {

using measure::Record;

// Of one run: workers take samples off a list, and this thread shows how far they are.
class Crew {
 public:
  Crew(const Task& task, std::span<const Arm> arms, measure::ResultFolder& folder,
       std::vector<size_t> todo)
      : task_(task), arms_(arms), folder_(folder), todo_(std::move(todo)) {}

  void run(int64_t workers) {
    std::vector<std::jthread> threads;
    running_ = std::min<int64_t>(workers, std::ssize(todo_));
    const int64_t count = running_;
    for (int64_t idx = 0; idx < count; ++idx) threads.emplace_back([this] { work(); });
    show();
    threads.clear();
    if (broken_) std::rethrow_exception(broken_);
  }

 private:
  void show() {
    Progress bar("evaluating", std::ssize(todo_));
    bar.update(0);
    std::unique_lock lock(mutex_);
    while (running_ > 0) {
      changed_.wait(lock);
      bar.update(done_);
    }
  }

  void work() {
    try {
      for (size_t at = next_++; at < todo_.size(); at = next_++) {
        folder_.add(measured(todo_[at]));
        const std::lock_guard lock(mutex_);
        ++done_;
        changed_.notify_all();
      }
    } catch (...) {
      next_ = todo_.size();  // nobody goes on
      const std::lock_guard lock(mutex_);
      broken_ = std::current_exception();
    }
    const std::lock_guard lock(mutex_);
    --running_;
    changed_.notify_all();
  }

  Record measured(size_t idx) const {
    Record record = task_.samples()[idx];
    if (record.error) return record;
    try {
      task_.run(idx, arms_, record);
    } catch (const Error& error) {
      record.arms.clear();
      record.error = error.what();
    }
    return record;
  }

  const Task& task_;
  std::span<const Arm> arms_;
  measure::ResultFolder& folder_;
  std::vector<size_t> todo_;
  std::atomic<size_t> next_{0};
  std::mutex mutex_;  ///< guards what follows
  std::condition_variable changed_;
  int64_t done_ = 0;
  int64_t running_ = 0;
  std::exception_ptr broken_;
};

}  // namespace

void run_samples(const Task& task, std::span<const Arm> arms, int64_t concurrency,
                 measure::ResultFolder& folder) {
  std::vector<size_t> todo;
  for (size_t idx = 0; idx < task.samples().size(); ++idx) {
    const auto found = folder.records().find(task.samples()[idx].id);
    if (found == folder.records().end() || found->second.error) todo.push_back(idx);
  }
  const size_t all = task.samples().size();
  if (todo.size() < all) log_info("{} of {} samples were there already", all - todo.size(), all);
  if (!todo.empty()) Crew(task, arms, folder, std::move(todo)).run(concurrency);
}

std::vector<Record> collect(const Task& task, const measure::ResultFolder& folder) {
  std::vector<Record> out;
  for (const Record& sample : task.samples()) out.push_back(folder.records().at(sample.id));
  return out;
}

}  // namespace foveal::eval

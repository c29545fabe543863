#pragma once

#include <chrono>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "server/admission.h"
#include "server/answer.h"
#include "server/http.h"
#include "server/metrics.h"

namespace foveal::server {

class Task;

/// Requests being generated: keeps them alive, and can end them all. Any thread.
class TaskList {
 public:
  void add(std::shared_ptr<Task> task);
  void remove(const std::shared_ptr<Task>& task);
  void cancel_all();
  /// Once no thread of the server runs any more.
  void clear();

 private:
  std::mutex mutex_;
  std::set<std::shared_ptr<Task>> tasks_;
};

/// What a task reports to and takes part in; outlives it.
struct TaskWorld {
  LLM& llm;
  Metrics& metrics;
  TaskList& tasks;
};

/// One request on its way from the engine to its client. The engine's thread only ever posts to the
/// connection's strand, where `pump` takes what there is; whole answers are written by a worker.
class Task : public std::enable_shared_from_this<Task> {
 public:
  Task(TaskWorld world, std::string route, Call call, AnswerMaker answer, Admission::Slot slot,
       std::shared_ptr<Exchange> exchange);
  ~Task();

  /// Submits all prompts. Throws what LLM::submit throws; nothing is running then.
  void start();
  void cancel();

 private:
  using Clock = std::chrono::steady_clock;

  /// Held by the engine's callbacks, which may come while the task is being destroyed.
  struct Waker {
    std::mutex mutex;
    std::shared_ptr<Exchange> exchange;  ///< null: asleep for good
    std::weak_ptr<Task> task;
    bool posted = false;
    void wake();
    void rearm();
    void stop();
  };

  void pump();
  void take(size_t prompt, const OutputDelta& delta, std::string& out);
  bool all_ended() const;
  void finish();
  void write_end();
  std::optional<ApiError> collect();
  void fail_with(const ApiError& error);

  TaskWorld world_;
  std::string route_;
  Call call_;
  std::unique_ptr<Answer> answer_;
  std::optional<Admission::Slot> slot_;
  std::shared_ptr<Exchange> exchange_;
  std::shared_ptr<Waker> waker_ = std::make_shared<Waker>();
  std::vector<Generation> generations_;
  std::vector<RequestOutput> outputs_;
  std::vector<std::optional<Clock::time_point>> last_;  ///< token of each choice
  bool streaming_ = false;
  bool finished_ = false;
  std::atomic<bool> gone_{false};  ///< the client
};

}  // namespace foveal::server

#include "server/task.h"

#include <algorithm>
#include <utility>

#include "base/log.h"

namespace foveal::server {

void TaskList::add(std::shared_ptr<Task> task) {
  const std::lock_guard lock(mutex_);
  tasks_.insert(std::move(task));
}

void TaskList::remove(const std::shared_ptr<Task>& task) {
  const std::lock_guard lock(mutex_);
  tasks_.erase(task);
}

void TaskList::cancel_all() {
  std::set<std::shared_ptr<Task>> tasks;
  {
    const std::lock_guard lock(mutex_);
    tasks = tasks_;
  }
  for (const auto& task : tasks) task->cancel();
}

void TaskList::clear() {
  std::set<std::shared_ptr<Task>> tasks;
  const std::lock_guard lock(mutex_);
  tasks.swap(tasks_);
}

void Task::Waker::wake() {
  const std::lock_guard lock(mutex);
  if (!exchange || posted) return;
  try {
    exchange->post([weak = task] {
      if (auto self = weak.lock()) self->pump();
    });
    posted = true;
  } catch (const std::exception&) {
    // No memory for one more posted function: the next token tries again.
  }
}

void Task::Waker::rearm() {
  const std::lock_guard lock(mutex);
  posted = false;
}

void Task::Waker::stop() {
  std::shared_ptr<Exchange> last;  // destroyed without the lock
  const std::lock_guard lock(mutex);
  last.swap(exchange);
}

Task::Task(TaskWorld world, std::string route, Call call, AnswerMaker answer, Admission::Slot slot,
           std::shared_ptr<Exchange> exchange)
    : world_(world),
      route_(std::move(route)),
      call_(std::move(call)),
      answer_(answer(call_, world_.llm)),
      slot_(std::move(slot)),
      exchange_(std::move(exchange)),
      last_(call_.num_choices()) {}

Task::~Task() {
  waker_->stop();
  cancel();
}

void Task::cancel() {
  for (Generation& generation : generations_) generation.cancel();
}

void Task::start() {
  for (const std::vector<int32_t>& prompt : call_.prompts) {
    generations_.push_back(world_.llm.submit({.token_ids = prompt}, call_.sampling, call_.options));
  }
  world_.tasks.add(shared_from_this());
  waker_->exchange = exchange_;
  waker_->task = weak_from_this();
  exchange_->on_closed([weak = weak_from_this()] {
    if (auto self = weak.lock()) {
      self->gone_.store(true);
      self->cancel();
    }
  });
  for (Generation& generation : generations_) {
    generation.on_ready([waker = waker_] { waker->wake(); });
  }
}

void Task::pump() {
  if (finished_) return;
  waker_->rearm();
  try {
    std::string out;
    for (size_t prompt = 0; prompt < generations_.size(); ++prompt) {
      while (const auto delta = generations_[prompt].poll()) take(prompt, *delta, out);
    }
    if (!out.empty()) {
      if (!std::exchange(streaming_, true)) exchange_->begin_stream();
      exchange_->write(std::move(out));
    }
    if (all_ended()) finish();
  } catch (const std::exception& error) {
    // Our own mistake, or no memory for the text: this request ends, the others go on.
    finished_ = true;
    cancel();
    fail_with(describe_error(error, route_));
    waker_->stop();
    slot_.reset();
    world_.tasks.remove(shared_from_this());
  }
}

void Task::take(size_t prompt, const OutputDelta& delta, std::string& out) {
  const auto now = Clock::now();
  auto& last =
      last_[prompt * static_cast<size_t>(call_.sampling.n) + static_cast<size_t>(delta.index)];
  if (!delta.token_ids.empty()) {
    const double seconds =
        std::chrono::duration<double>(now - last.value_or(call_.arrival)).count();
    (last ? world_.metrics.inter_token : world_.metrics.first_token).observe(seconds);
    last = now;
  }
  if (!call_.stream || gone_.load()) return;
  if (delta.finish_reason == FinishReason::kError ||
      delta.finish_reason == FinishReason::kCancelled) {
    return;  // said at the end, for the whole request
  }
  answer_->delta(prompt, delta, out);
}

bool Task::all_ended() const {
  return std::all_of(generations_.begin(), generations_.end(),
                     [](const Generation& generation) { return generation.ended(); });
}

void Task::finish() {
  finished_ = true;
  waker_->stop();
  exchange_->work([self = shared_from_this()] {
    self->write_end();
    self->slot_.reset();
    self->world_.tasks.remove(self);
  });
}

/// Everything has ended: nothing here waits.
std::optional<ApiError> Task::collect() {
  try {
    for (Generation& generation : generations_) outputs_.push_back(generation.result());
  } catch (const std::exception& error) {
    return describe_error(error, route_);
  }
  for (const RequestOutput& output : outputs_) {
    for (const CompletionOutput& completion : output.outputs) {
      if (completion.finish_reason == FinishReason::kCancelled) {
        return ApiError{.status = gone_.load() ? 499 : 503,
                        .message = "the request was cancelled",
                        .code = "cancelled"};
      }
    }
  }
  return std::nullopt;
}

void Task::write_end() {
  const std::optional<ApiError> error = collect();
  world_.metrics.whole.observe(std::chrono::duration<double>(Clock::now() - call_.arrival).count());
  if (error) return fail_with(*error);
  for (const RequestOutput& output : outputs_) {
    for (const CompletionOutput& completion : output.outputs) {
      world_.metrics.generation(completion.finish_reason == FinishReason::kStop ? "stop"
                                                                                : "length");
    }
  }
  try {
    if (call_.stream) {
      std::string out;
      answer_->end(outputs_, out);
      if (!std::exchange(streaming_, true)) exchange_->begin_stream();
      exchange_->write(std::move(out));
      exchange_->end_stream();
    } else {
      exchange_->respond({.body = answer_->whole(outputs_)});
    }
    world_.metrics.request(route_, 200);
  } catch (const std::exception& failure) {
    fail_with(describe_error(failure, route_));
  }
}

void Task::fail_with(const ApiError& error) {
  try {
    world_.metrics.request(route_, error.status);
    world_.metrics.generation(error.code == "cancelled" ? "cancelled" : "error");
    if (!streaming_) return exchange_->respond(error_response(error));
    std::string out;
    answer_->failed(error, out);
    exchange_->write(std::move(out));
    exchange_->end_stream();
  } catch (const std::exception& failure) {
    log_error("{}: {}", route_, failure.what());  // the exchange, dropped, closes the connection
  }
}

}  // namespace foveal::server

#include "engine/token_stream.h"

#include <utility>

namespace foveal::engine {

std::optional<TokenEvent> TokenStream::next() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return !events_.empty() || summary_.has_value(); });
  if (events_.empty()) return std::nullopt;
  TokenEvent event = std::move(events_.front());
  events_.pop_front();
  return event;
}

std::optional<TokenEvent> TokenStream::poll() {
  const std::lock_guard lock(mutex_);
  if (events_.empty()) return std::nullopt;
  TokenEvent event = std::move(events_.front());
  events_.pop_front();
  return event;
}

bool TokenStream::drained() {
  const std::lock_guard lock(mutex_);
  return events_.empty() && summary_.has_value();
}

void TokenStream::on_ready(const std::function<void()>& callback) {
  bool now = false;
  {
    const std::lock_guard lock(mutex_);
    ready_ = callback;
    now = !events_.empty() || summary_.has_value();
  }
  if (now && callback) callback();
}

void TokenStream::notify() {
  changed_.notify_all();
  std::function<void()> callback;
  {
    const std::lock_guard lock(mutex_);
    callback = ready_;
  }
  if (callback) callback();
}

RequestSummary TokenStream::summary() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return summary_.has_value(); });
  return std::move(*summary_);
}

void TokenStream::push(TokenEvent event) {
  {
    const std::lock_guard lock(mutex_);
    events_.push_back(std::move(event));
  }
  notify();
}

void TokenStream::finish(RequestSummary summary) {
  {
    const std::lock_guard lock(mutex_);
    summary_ = std::move(summary);
  }
  notify();
}

}  // namespace foveal::engine

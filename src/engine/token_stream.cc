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
  changed_.notify_all();
}

void TokenStream::finish(RequestSummary summary) {
  {
    const std::lock_guard lock(mutex_);
    summary_ = std::move(summary);
  }
  changed_.notify_all();
}

}  // namespace foveal::engine

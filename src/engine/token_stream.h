#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>

#include "engine/request.h"

namespace foveal::engine {

/// Tokens of one request on their way from the engine thread to one consumer. Holds at most
/// max_tokens events, so a consumer that stalls holds up nobody.
class TokenStream {
 public:
  /// Waits for the next token; nothing when the request has ended.
  std::optional<TokenEvent> next();
  /// The next token if there is one already.
  std::optional<TokenEvent> poll();
  /// True when the request has ended and every token was taken.
  bool drained();
  /// Called on the engine thread (once at once, on this one, when there is something already)
  /// whenever there is more to take. Must be quick and must not throw.
  void on_ready(const std::function<void()>& callback);
  /// Waits for the end. Once: logits and traces are too large to copy.
  RequestSummary summary();
  /// Asks the engine to stop; it does so before its next step.
  void cancel() { cancelled_.store(true, std::memory_order_relaxed); }
  bool cancelled() const { return cancelled_.load(std::memory_order_relaxed); }

  /// Engine side.
  void push(TokenEvent event);
  void finish(RequestSummary summary);

 private:
  void notify();

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<TokenEvent> events_;
  std::optional<RequestSummary> summary_;
  std::function<void()> ready_;
  std::atomic<bool> cancelled_{false};
};

}  // namespace foveal::engine

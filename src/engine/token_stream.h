#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
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
  /// Waits for the end. Once: logits and traces are too large to copy.
  RequestSummary summary();
  /// Asks the engine to stop; it does so before its next step.
  void cancel() { cancelled_.store(true, std::memory_order_relaxed); }
  bool cancelled() const { return cancelled_.load(std::memory_order_relaxed); }

  /// Engine side.
  void push(TokenEvent event);
  void finish(RequestSummary summary);

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<TokenEvent> events_;
  std::optional<RequestSummary> summary_;
  std::atomic<bool> cancelled_{false};
};

}  // namespace foveal::engine

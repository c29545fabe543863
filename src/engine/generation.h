#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "engine/completion_stream.h"

namespace foveal {

/// The consumer's half of a request: its completions, and a wait for whichever has more.
class GenerationState {
 public:
  /// One stream a completion, in order. `tokenizer` null: no text.
  GenerationState(std::vector<int32_t> prompt, const SamplingParams& sampling,
                  std::vector<std::shared_ptr<engine::TokenStream>> streams,
                  const tokenizer::Tokenizer* tokenizer);
  ~GenerationState();

  std::optional<std::string> next();
  std::optional<OutputDelta> next_delta();
  std::optional<OutputDelta> poll();
  bool ended() const;
  void on_ready(std::function<void()> callback);
  void cancel();
  RequestOutput result();

 private:
  /// What the engine's thread calls; shared, for a step may be calling while the consumer leaves.
  struct Signal {
    std::mutex mutex;
    std::condition_variable changed;
    uint64_t count = 0;
    std::function<void()> callback;
    void raise();
  };

  std::vector<int32_t> prompt_;
  std::vector<CompletionStream> completions_;
  std::shared_ptr<Signal> signal_;
  size_t turn_ = 0;  ///< completions take turns, so that none starves
};

}  // namespace foveal

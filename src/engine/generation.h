#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/token_stream.h"
#include "foveal/llm.h"
#include "tokenizer/tokenizer.h"

namespace foveal {

/// The consumer's half of a request: turns the engine's tokens into text and looks for stop
/// strings.
class GenerationState {
 public:
  /// `tokenizer` null: no text. Borrowed; the LLM outlives its generations.
  GenerationState(std::vector<int32_t> prompt, const SamplingParams& sampling,
                  std::shared_ptr<engine::TokenStream> stream,
                  const tokenizer::Tokenizer* tokenizer);

  std::optional<std::string> next();
  void cancel() { stream_->cancel(); }
  RequestOutput result();

 private:
  std::string finish_text();

  std::vector<int32_t> prompt_;
  std::shared_ptr<engine::TokenStream> stream_;
  bool wants_logprobs_;
  int64_t min_tokens_;
  std::optional<tokenizer::StreamDecoder> decoder_;
  tokenizer::StopMatcher stops_;
  CompletionOutput output_;
  int32_t vocab_size_ = 0;
  bool stopped_ = false;  ///< a stop string was found
  bool ended_ = false;
};

}  // namespace foveal

#pragma once

#include <optional>
#include <string>
#include <vector>

#include "engine/token_stream.h"
#include "foveal/llm.h"
#include "tokenizer/tokenizer.h"

namespace foveal {

/// The consumer's half of one completion: turns the engine's tokens into text and looks for stop
/// strings. One consumer at a time.
class CompletionStream {
 public:
  /// `tokenizer` null: no text. Borrowed; the LLM outlives its generations.
  CompletionStream(int32_t index, const SamplingParams& sampling,
                   std::shared_ptr<engine::TokenStream> stream,
                   const tokenizer::Tokenizer* tokenizer);

  /// What one more token, or the end, adds; nothing while there is neither.
  std::optional<OutputDelta> poll();
  /// The last delta was taken: `output` is whole and `summary` there.
  bool ended() const { return ended_; }
  engine::TokenStream& stream() { return *stream_; }
  const CompletionOutput& output() const { return output_; }
  engine::RequestSummary& summary() { return summary_; }
  /// The request's own error, unless a stop string had ended it before.
  bool failed() const { return summary_.error.has_value() && !stopped_; }

 private:
  OutputDelta take(engine::TokenEvent event);
  std::optional<OutputDelta> finish();
  void add_text(OutputDelta& delta, tokenizer::StopMatcher::Result piece);

  std::shared_ptr<engine::TokenStream> stream_;
  int32_t index_;
  bool wants_logprobs_;
  int64_t min_tokens_;
  int32_t vocab_size_ = 0;
  std::optional<tokenizer::StreamDecoder> decoder_;
  tokenizer::StopMatcher stops_;
  CompletionOutput output_;
  engine::RequestSummary summary_;
  bool stopped_ = false;  ///< a stop string was found
  bool ended_ = false;
};

}  // namespace foveal

#include "engine/completion_stream.h"

#include <utility>

namespace foveal {

CompletionStream::CompletionStream(int32_t index, const SamplingParams& sampling,
                                   std::shared_ptr<engine::TokenStream> stream,
                                   const tokenizer::Tokenizer* tokenizer)
    : stream_(std::move(stream)),
      index_(index),
      wants_logprobs_(sampling.logprobs.has_value()),
      min_tokens_(sampling.min_tokens),
      stops_(sampling.stop, sampling.include_stop_str_in_output) {
  if (tokenizer == nullptr) return;
  decoder_.emplace(*tokenizer);
  vocab_size_ = tokenizer->vocab_size();
}

std::optional<OutputDelta> CompletionStream::poll() {
  if (ended_) return std::nullopt;
  while (std::optional<engine::TokenEvent> event = stream_->poll()) {
    if (!stopped_) return take(*std::move(event));
    // The engine was a step ahead of the stop string; what it added is dropped.
  }
  return stream_->drained() ? finish() : std::nullopt;
}

void CompletionStream::add_text(OutputDelta& delta, tokenizer::StopMatcher::Result piece) {
  if (piece.stopped) {
    stopped_ = true;
    output_.stop_text = std::move(piece.stop);
    stream_->cancel();
  }
  output_.text += piece.text;
  delta.text += piece.text;
}

OutputDelta CompletionStream::take(engine::TokenEvent event) {
  OutputDelta delta{.index = index_, .token_ids = {event.token}};
  output_.token_ids.push_back(event.token);
  if (wants_logprobs_) {
    const TokenLogprob own{.token = event.token, .logprob = event.logprob, .rank = event.rank};
    output_.logprobs.push_back(own);
    output_.top_logprobs.push_back(event.top);
    delta.logprobs.push_back(own);
    delta.top_logprobs.push_back(std::move(event.top));
  }
  // Embedding tables are padded past the vocabulary; such an id has no text.
  if (!decoder_ || event.token >= vocab_size_) return delta;
  std::string text = decoder_->push(event.token);
  if (static_cast<int64_t>(output_.token_ids.size()) >= min_tokens_) {
    add_text(delta, stops_.push(text));
  } else {
    add_text(delta, {.text = std::move(text)});  // too early to stop
  }
  return delta;
}

std::optional<OutputDelta> CompletionStream::finish() {
  OutputDelta delta{.index = index_};
  if (decoder_ && !stopped_) {
    add_text(delta, stops_.push(decoder_->flush()));
    if (!stopped_) add_text(delta, {.text = stops_.flush()});
  }
  summary_ = stream_->summary();
  output_.finish_reason = stopped_ ? FinishReason::kStop : summary_.reason;
  delta.finish_reason = output_.finish_reason;
  ended_ = true;
  return delta;
}

}  // namespace foveal

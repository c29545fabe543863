#include "engine/generation.h"

#include <utility>

namespace foveal {

GenerationState::GenerationState(std::vector<int32_t> prompt, const SamplingParams& sampling,
                                 std::shared_ptr<engine::TokenStream> stream,
                                 const tokenizer::Tokenizer* tokenizer)
    : prompt_(std::move(prompt)),
      stream_(std::move(stream)),
      wants_logprobs_(sampling.logprobs.has_value()),
      min_tokens_(sampling.min_tokens),
      stops_(sampling.stop, sampling.include_stop_str_in_output) {
  if (tokenizer == nullptr) return;
  decoder_.emplace(*tokenizer);
  vocab_size_ = tokenizer->vocab_size();
}

std::optional<std::string> GenerationState::next() {
  if (ended_) return std::nullopt;
  std::optional<engine::TokenEvent> event;
  if (!stopped_) event = stream_->next();
  if (!event) {
    ended_ = true;
    std::string rest = stopped_ ? std::string() : finish_text();
    if (rest.empty()) return std::nullopt;
    output_.text += rest;
    return rest;
  }
  output_.token_ids.push_back(event->token);
  if (wants_logprobs_) {
    output_.logprobs.push_back(
        {.token = event->token, .logprob = event->logprob, .rank = event->rank});
    output_.top_logprobs.push_back(std::move(event->top));
  }
  // Embedding tables are padded past the vocabulary; such an id has no text.
  if (!decoder_ || event->token >= vocab_size_) return std::string();
  std::string text = decoder_->push(event->token);
  tokenizer::StopMatcher::Result piece;
  if (static_cast<int64_t>(output_.token_ids.size()) >= min_tokens_) {
    piece = stops_.push(text);
  } else {
    piece.text = std::move(text);  // too early to stop
  }
  if (piece.stopped) {
    stopped_ = true;
    stream_->cancel();  // the engine may be a step ahead; what it adds is dropped
  }
  output_.text += piece.text;
  return piece.text;
}

std::string GenerationState::finish_text() {
  if (!decoder_) return {};
  tokenizer::StopMatcher::Result piece = stops_.push(decoder_->flush());
  if (piece.stopped) {
    stopped_ = true;
    return piece.text;
  }
  return piece.text + stops_.flush();
}

RequestOutput GenerationState::result() {
  while (next()) {
  }
  engine::RequestSummary summary = stream_->summary();
  if (summary.error && !stopped_) throw *summary.error;
  RequestOutput out;
  output_.finish_reason = stopped_ ? FinishReason::kStop : summary.reason;
  out.prompt_token_ids = prompt_;
  out.outputs.push_back(output_);
  out.prompt_logprobs = std::move(summary.prompt_logprobs);
  out.prompt_top_logprobs = std::move(summary.prompt_top_logprobs);
  out.cached_tokens = summary.cached_tokens;
  out.timings = summary.timings;
  out.sparsity = std::move(summary.sparsity);
  out.memory = summary.memory;
  out.logits = std::move(summary.logits);
  out.trace = std::move(summary.trace);
  return out;
}

std::optional<std::string> Generation::next() { return state_->next(); }
void Generation::cancel() { state_->cancel(); }
RequestOutput Generation::result() { return state_->result(); }

}  // namespace foveal

#include "engine/running.h"

#include <algorithm>
#include <limits>

#include "sampler/logprob.h"

namespace foveal::engine {
namespace {

double ms_between(Clock::time_point from, Clock::time_point to) {
  return std::chrono::duration<double, std::milli>(to - from).count();
}

}  // namespace

Running::Running(scheduler::RequestId id, EngineRequest request, int32_t vocab_size,
                 std::shared_ptr<TokenStream> stream)
    : id_(id),
      request_(std::move(request)),
      stream_(std::move(stream)),
      sampler_(request_.sampling, vocab_size, request_.prompt,
               request_.sampling.ignore_eos ? std::vector<int32_t>{} : request_.end_tokens) {
  if (request_.trace_filter) trace_ = std::make_unique<TraceCollector>(*request_.trace_filter);
  if (request_.logits_from) {
    summary_.logits = TracedTensor{.name = "logits", .cols = vocab_size};
    const int64_t rows = prompt_len() - *request_.logits_from;
    summary_.logits->data.reserve(static_cast<size_t>(rows * vocab_size));
  }
  if (request_.generation_logits) {
    summary_.generation_logits = TracedTensor{.name = "generation_logits", .cols = vocab_size};
  }
  if (request_.sampling.prompt_logprobs) {
    summary_.prompt_logprobs.resize(request_.prompt.size());
    summary_.prompt_top_logprobs.resize(request_.prompt.size());
  }
}

int64_t Running::logits_from() const {
  if (replaying_) return std::numeric_limits<int64_t>::max();
  if (request_.sampling.prompt_logprobs) return 0;
  return request_.logits_from.value_or(std::numeric_limits<int64_t>::max());
}

void Running::start(int64_t cached_tokens, std::unique_ptr<attention::SequenceState> state) {
  state_ = std::move(state);
  replaying_ = prompt_done_;
  if (replaying_) return;
  started_ = Clock::now();
  summary_.cached_tokens = cached_tokens;
  summary_.timings.prefill_tokens = prompt_len() - cached_tokens;
  summary_.sparsity = {};
  if (summary_.logits) {
    summary_.logits->data.clear();
    summary_.logits->rows = 0;
  }
}

void Running::count(const attention::AttentionStep& step, attention::Phase phase, size_t seq,
                    int64_t end) {
  const bool repeated = phase == attention::Phase::kPrefill ? prompt_done_ : end <= counted_;
  if (repeated) return;
  if (phase == attention::Phase::kDecode) counted_ = end;
  step.add_to(summary_.sparsity, phase, seq);
}

void Running::prompt_done() {
  if (prompt_done_) return;
  prompt_done_ = true;
  summary_.timings.prefill_ms = ms_between(*started_, Clock::now());
}

void Running::count_prompt(int64_t reached_tokens) {
  summary_.sparsity.prompt_tokens = static_cast<uint64_t>(prompt_len());
  summary_.sparsity.kept_tokens = static_cast<uint64_t>(reached_tokens);
}

RowUse Running::prompt_use(int64_t position) const {
  if (position < logits_from() || position >= prompt_len()) return RowUse::kNothing;
  if (summary_.logits && position >= *request_.logits_from) return RowUse::kLogits;
  if (!request_.sampling.prompt_logprobs || position + 1 == prompt_len()) return RowUse::kNothing;
  return *request_.sampling.prompt_logprobs > 0 ? RowUse::kLogits : RowUse::kScore;
}

void Running::keep_logits(int64_t position, std::span<const float> logits) {
  if (summary_.logits && position >= *request_.logits_from) {
    sampler::check_logits(logits);  // what is not sampled must not reach a file unchecked either
    summary_.logits->data.insert(summary_.logits->data.end(), logits.begin(), logits.end());
    summary_.logits->rows += 1;
  }
  if (request_.sampling.prompt_logprobs && position + 1 < prompt_len()) {
    const auto next = static_cast<size_t>(position + 1);
    summary_.prompt_logprobs[next] = sampler::token_logprob(logits, prompt_token_after(position));
    const auto top = static_cast<int32_t>(*request_.sampling.prompt_logprobs);
    if (top > 0) summary_.prompt_top_logprobs[next] = sampler::top_logprobs(logits, top);
  }
}

void Running::keep_score(int64_t position, const kernels::cuda::ScoredToken& score) {
  if (score.flags != 0) sampler::Sampler::fail_choice(score.flags);
  summary_.prompt_logprobs[static_cast<size_t>(position) + 1] = {
      .token = prompt_token_after(position), .logprob = score.logprob, .rank = score.rank};
}

TokenEvent Running::forced_event(std::span<const float> logits) {
  sampler::check_logits(logits);
  TokenEvent event{.token = request_.forced_tokens.at(static_cast<size_t>(generated_))};
  if (const auto top = request_.sampling.logprobs) {
    const TokenLogprob own = sampler::token_logprob(logits, event.token);
    event.logprob = own.logprob;
    event.rank = own.rank;
    if (*top > 0) event.top = sampler::top_logprobs(logits, static_cast<int32_t>(*top));
  }
  sampler_.accept(event.token);
  return event;
}

FinishReason Running::sample(std::span<float> logits, int32_t* token) {
  if (summary_.generation_logits) {  // before the sampler edits them
    std::vector<float>& kept = summary_.generation_logits->data;
    kept.insert(kept.end(), logits.begin(), logits.end());
    summary_.generation_logits->rows += 1;
  }
  if (!request_.forced_tokens.empty()) {
    TokenEvent event = forced_event(logits);
    *token = event.token;
    return publish(std::move(event));
  }
  tokenizer::Constraint* constraint = request_.constraint.get();
  sampler::SampleResult result =
      sampler_.sample(logits, constraint ? constraint->allowed() : std::span<const uint32_t>{});
  *token = result.token;
  if (constraint) constraint->accept(result.token);
  return publish({.token = result.token,
                  .logprob = result.logprob,
                  .rank = result.rank,
                  .top = std::move(result.top)});
}

bool Running::describe(kernels::cuda::SampleRow& row,
                       std::vector<kernels::cuda::LogitEdit>& edits) const {
  return request_.constraint == nullptr && !needs_logits() &&
         sampler_.describe(row, edits, pending_row_ >= 0 ? 1 : 0);
}

bool Running::may_run_ahead() const {
  return request_.constraint == nullptr && trace_ == nullptr && sampler_.memoryless() &&
         generated_ + 1 < request_.sampling.max_tokens;
}

FinishReason Running::take(int32_t token, uint32_t flags) {
  if (flags != 0) sampler::Sampler::fail_choice(flags);
  sampler_.accept(token);
  return publish({.token = token});
}

FinishReason Running::publish(TokenEvent event) {
  pending_row_ = -1;
  generated_ += 1;
  last_token_ = Clock::now();
  if (!first_token_) first_token_ = last_token_;
  const int32_t token = event.token;
  if (holds_events_) {
    held_.push_back(std::move(event));
  } else {
    stream_->push(std::move(event));
  }
  return ends_with(token);
}

void Running::flush() {
  for (TokenEvent& event : held_) stream_->push(std::move(event));
  held_.clear();
}

FinishReason Running::ends_with(int32_t token) const {
  const SamplingParams& sampling = request_.sampling;
  const auto is_in = [&](const std::vector<int32_t>& tokens) {
    return std::find(tokens.begin(), tokens.end(), token) != tokens.end();
  };
  if (generated_ >= sampling.min_tokens) {
    if (!sampling.ignore_eos && is_in(request_.end_tokens)) return FinishReason::kStop;
    if (is_in(sampling.stop_token_ids)) return FinishReason::kStop;
  }
  if (request_.constraint && request_.constraint->finished()) return FinishReason::kStop;
  return generated_ >= sampling.max_tokens ? FinishReason::kLength : FinishReason::kNone;
}

void Running::finish(FinishReason reason, int64_t bytes_per_page, const std::string& method,
                     const std::optional<Error>& error) {
  flush();
  summary_.reason = reason;
  summary_.error = error;
  summary_.memory = {.kv_bytes = held_pages_ * bytes_per_page,
                     .kv_peak_bytes = peak_pages_ * bytes_per_page};
  summary_.sparsity.method = method;
  if (first_token_) {
    summary_.timings.ttft_ms = ms_between(submitted_, *first_token_);
    summary_.timings.decode_ms = ms_between(*first_token_, *last_token_);
    summary_.timings.decode_tokens = generated_ - 1;
  }
  if (trace_) summary_.trace = trace_->take();
  stream_->finish(std::move(summary_));
}

}  // namespace foveal::engine

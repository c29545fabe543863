#pragma once

#include <chrono>
#include <memory>
#include <optional>

#include "attention/step.h"
#include "engine/batch.h"
#include "engine/request.h"
#include "engine/token_stream.h"
#include "engine/trace.h"
#include "kernels/cuda/token_logprob.h"
#include "sampler/sampler.h"
#include "scheduler/scheduler.h"

namespace foveal::engine {

using Clock = std::chrono::steady_clock;

/// What the engine thread knows of one request from submission to its end.
class Running {
 public:
  Running(scheduler::RequestId id, EngineRequest request, int32_t vocab_size,
          std::shared_ptr<TokenStream> stream);

  scheduler::RequestId id() const { return id_; }
  void set_id(scheduler::RequestId id) { id_ = id; }
  /// The request whose prompt this one waits for; 0: none.
  scheduler::RequestId leader() const { return leader_; }
  void follow(scheduler::RequestId leader) { leader_ = leader; }
  /// Its own factors, settled by AttentionSet::request_factors.
  const PhaseValue& factors() const { return factors_; }
  void set_factors(const PhaseValue& factors) { factors_ = factors; }
  bool prompt_computed() const { return prompt_done_; }
  const EngineRequest& request() const { return request_; }
  TokenStream& stream() { return *stream_; }
  TraceCollector* trace() { return trace_.get(); }
  int64_t prompt_len() const { return static_cast<int64_t>(request_.prompt.size()); }
  /// First prompt position whose logits must be computed; past the prompt when none.
  int64_t logits_from() const;
  bool needs_whole_prompt() const { return logits_from() < prompt_len() || trace_ != nullptr; }

  /// The scheduler (re)started it. A prompt that a preemption cut short is measured anew; one that
  /// had been read stays as it was measured, for what comes now repeats it.
  void start(int64_t cached_tokens, std::unique_ptr<attention::SequenceState> state);
  /// What the attention method keeps of it while it runs.
  attention::SequenceState* state() const { return state_.get(); }
  void drop_state() { state_.reset(); }
  void hold_pages(int64_t pages) { peak_pages_ = std::max(peak_pages_, held_pages_ = pages); }
  /// Its share of a step was computed, up to position `end`. What a preempted request repeats is
  /// not counted again.
  void count(const attention::AttentionStep& step, attention::Phase phase, size_t seq, int64_t end);
  void prompt_done();
  /// How many of its prompt's tokens decode can reach.
  void count_prompt(int64_t reached_tokens);
  /// Adds what it counted to a total.
  void add_work(SparsityReport& total) const { total.add(summary_.sparsity); }
  /// What a position's logits are wanted for other than for sampling: kLogits, kScore (of
  /// prompt_token_after) or kNothing.
  RowUse prompt_use(int64_t position) const;
  int32_t prompt_token_after(int64_t position) const {
    return request_.prompt[static_cast<size_t>(position) + 1];
  }
  /// Logits of a position that has such a use.
  void keep_logits(int64_t position, std::span<const float> logits);
  /// The same where a device has scored the token, or throws what it says of having no score.
  void keep_score(int64_t position, const kernels::cuda::ScoredToken& score);
  /// Chooses and publishes the next token; says why the request ends, if it does.
  FinishReason sample(std::span<float> logits, int32_t* token);
  /// How a device would choose it; false where it cannot.
  bool describe(kernels::cuda::SampleRow& row, std::vector<kernels::cuda::LogitEdit>& edits) const;
  /// Whether the token after the next can be asked for before the next one is known: the request
  /// does not end for its length, and the choice depends on the number of tokens alone.
  bool may_run_ahead() const;
  /// The device has chosen the next token, in its choice `row`; until `take` or `sample` has it.
  void set_pending(int32_t row) { pending_row_ = row; }
  int32_t pending_row() const { return pending_row_; }  ///< -1: nothing is pending
  /// Takes a token that the device chose, or throws what it says of having none.
  FinishReason take(int32_t token, uint32_t flags);
  /// Keeps published tokens back until `flush`, so that callers wake while the device works.
  void hold_events() { holds_events_ = true; }
  void flush();

  /// Ends the stream.
  void finish(FinishReason reason, int64_t bytes_per_page, const std::string& method,
              const std::optional<Error>& error = std::nullopt);

 private:
  bool needs_logits() const {
    return request_.generation_logits || !request_.forced_tokens.empty();
  }
  TokenEvent forced_event(std::span<const float> logits);
  FinishReason publish(TokenEvent event);
  FinishReason ends_with(int32_t token) const;

  scheduler::RequestId id_;
  scheduler::RequestId leader_ = 0;
  PhaseValue factors_;
  EngineRequest request_;
  std::shared_ptr<TokenStream> stream_;
  sampler::Sampler sampler_;
  std::unique_ptr<attention::SequenceState> state_;
  std::unique_ptr<TraceCollector> trace_;
  RequestSummary summary_;
  std::vector<TokenEvent> held_;  ///< published once `flush` is called
  bool holds_events_ = false;
  bool prompt_done_ = false;
  bool replaying_ = false;  ///< it was preempted after its prompt: what was kept is kept
  int64_t counted_ = 0;     ///< positions whose decode was counted
  int64_t generated_ = 0;
  int32_t pending_row_ = -1;
  int64_t held_pages_ = 0;
  int64_t peak_pages_ = 0;
  Clock::time_point submitted_ = Clock::now();
  std::optional<Clock::time_point> started_, first_token_, last_token_;
};

}  // namespace foveal::engine

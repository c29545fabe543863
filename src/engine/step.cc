// One step of the engine: plan, prepare, compute, account, publish.

#include <algorithm>

#include "base/check.h"
#include "engine/loop.h"

namespace foveal::engine {
namespace {

Error unexpected(const std::exception& error) {
  return Error(ErrorKind::kInternal,
               std::string("[engine] got ") + error.what() + "; need a bug report");
}

int64_t held_pages(const scheduler::Scheduler& scheduler, scheduler::RequestId id) {
  return std::ssize(scheduler.page_table(id)) + std::ssize(scheduler.spare_pages(id));
}

}  // namespace

void Engine::Loop::step() {
  try {
    if (device_step_) return step_on_device();
    if (plan_next(flights_[0])) return compute(flights_[0]);
    note_stats();
    flush_events();
  } catch (const Error& error) {
    fail_all(error);
  } catch (const std::bad_alloc&) {
    fail_all(Error(ErrorKind::kOutOfMemory,
                   "[engine] got no memory for a step; need more, or smaller steps"));
  } catch (const std::exception& error) {
    fail_all(unexpected(error));
  }
}

bool Engine::Loop::plan_next(Flight& flight) {
  flight.plan = scheduler_.next_step();
  flight.counted = false;
  if (flight.plan.empty()) return false;
  counted_.steps += 1;
  counted_.preemptions += flight.plan.preempted.size();
  prepare(flight);
  return true;
}

void Engine::Loop::prepare(Flight& flight) {
  const scheduler::StepPlan& plan = flight.plan;
  for (const RequestId id : plan.admitted) {
    Running& running = *running_.at(id);
    const int32_t reused = scheduler_.reused_tokens(id);
    if (!running.prompt_computed()) {
      counted_.prompt_tokens += static_cast<uint64_t>(running.prompt_len());
      counted_.cached_tokens += static_cast<uint64_t>(reused);
    }
    running.start(reused, setup_.attention->make_state());
  }
  for (const RequestId id : plan.preempted) running_.at(id)->drop_state();
  stale_.clear();
  for (const kv::PageId page : plan.new_pages) {
    const auto at = static_cast<size_t>(page);
    if (page_used_[at]) stale_.push_back(page);
    page_used_[at] = true;
  }
  if (!stale_.empty() && !device_step_) {
    pool_.run(setup_.shape.num_layers, [&](int64_t layer, int) {
      const auto first = static_cast<int32_t>(layer);
      storage_.zero_pages(first, first + 1, stale_);
    });
  }
  flight.batch.build(plan, scheduler_, [this](RequestId id) {
    const Running& running = *running_.at(id);
    return Batch::Wishes{.logits_from = running.logits_from(),
                         .factors = running.factors(),
                         .state = running.state(),
                         .pending_row = running.pending_row()};
  });
  if (traced_ != 0) flight.batch.set_trace(running_.at(traced_)->trace());
}

void Engine::Loop::compute(Flight& flight) {
  const model::ForwardInput input = flight.batch.input(views_, setup_.exact);
  attention_.begin(input.prefill, input.decode, flight.batch.states());
  float* logits = model_->forward(input, attention_, stream_);
  count_work(flight.batch);
  account(flight.plan);
  end_prompts(flight);
  const auto vocab = static_cast<size_t>(model_->config().vocab_size);
  std::vector<RowResult> rows(flight.batch.logit_rows().size());
  for (RowResult& row : rows) {
    row.logits = {logits, vocab};
    logits += vocab;
  }
  publish(flight, rows);
}

// The step after the one that runs is launched before that one's tokens are read, where they cannot
// matter for it: the device goes from one to the next without waiting for the host.
void Engine::Loop::step_on_device() {
  if (flying_ == nullptr) flying_ = issue(nullptr);
  if (flying_ == nullptr) {
    note_stats();
    return flush_events();
  }
  Flight& flight = *flying_;
  Flight* next = may_run_ahead(flight) ? issue(&flight) : nullptr;
  // While the device works: callers get the tokens of the step before, and what the step is known
  // to do is counted, but for prompts, whose time ends with the step.
  flush_events();
  if (flight.batch.prefill().empty() && !device_step_->counts_on_device()) count(flight);
  note_stats();
  const std::span<const RowResult> rows = device_step_->wait(flight.ticket);
  step_ended_ = Clock::now();
  failed_steps_ = 0;
  if (!flight.counted) count(flight);
  end_prompts(flight);
  publish(flight, rows);
  flying_ = next;
}

/// Launches the next step; null where nothing can run. `before` still runs.
Engine::Loop::Flight* Engine::Loop::issue(Flight* before) {
  const Clock::time_point began = before == nullptr && step_ended_ ? *step_ended_ : Clock::now();
  if (before != nullptr) mark_pending(*before);
  Flight& flight = before == flights_ ? flights_[1] : flights_[0];
  if (!plan_next(flight)) return nullptr;
  attention_.begin(flight.batch.prefill(), flight.batch.decode(), flight.batch.states());
  flight.ticket = device_step_->launch(
      flight.batch, stale_,
      [this](const LogitRow& row, auto& edits) { return plan_row(row, edits); });
  // Of steps that follow a decode and only decode: others are issued kernel by kernel, and the
  // device works meanwhile.
  if (step_ended_ && flight.batch.prefill().empty()) note_gap(before, began);
  return &flight;
}

RowPlan Engine::Loop::plan_row(const LogitRow& row,
                               std::vector<kernels::cuda::LogitEdit>& edits) const {
  const Running& running = *running_.at(row.id);
  RowPlan plan{.use = running.prompt_use(row.position)};
  if (plan.use == RowUse::kScore) plan.token = running.prompt_token_after(row.position);
  if (!row.sample) return plan;
  const bool choose = plan.use == RowUse::kNothing && running.describe(plan.how, edits);
  plan.use = choose ? RowUse::kChoose : RowUse::kLogits;
  return plan;
}

/// How long the device had nothing to do; at most, where it finished while the host was at work.
void Engine::Loop::note_gap(const Flight* before, Clock::time_point began) {
  const bool busy = before != nullptr && !device_step_->is_done(before->ticket);
  const auto gap = busy ? Clock::duration{} : Clock::now() - began;
  counted_.host_gap_ns += static_cast<uint64_t>(std::chrono::nanoseconds(gap).count());
  counted_.host_gaps += 1;
}

bool Engine::Loop::may_run_ahead(const Flight& flight) const {
  if (config_.disable_overlap_scheduler || !flight.batch.prefill().empty()) return false;
  const std::span<const LogitRow> rows = flight.batch.logit_rows();
  for (size_t idx = 0; idx < rows.size(); ++idx) {
    const auto running = running_.find(rows[idx].id);
    if (running == running_.end()) continue;  // it ended with the step before
    if (device_step_->choice_row(flight.ticket, idx) < 0) return false;
    if (!running->second->may_run_ahead()) return false;
  }
  return true;
}

void Engine::Loop::mark_pending(const Flight& flight) {
  const std::span<const LogitRow> rows = flight.batch.logit_rows();
  for (size_t idx = 0; idx < rows.size(); ++idx) {
    const auto running = running_.find(rows[idx].id);
    if (running == running_.end()) continue;
    running->second->set_pending(device_step_->choice_row(flight.ticket, idx));
    scheduler_.append_pending(rows[idx].id);
  }
}

void Engine::Loop::count(Flight& flight) {
  device_step_->collect(flight.ticket);
  count_work(flight.batch);
  account(flight.plan);
  flight.counted = true;
}

void Engine::Loop::flush_events() {
  for (auto& [id, running] : running_) running->flush();
}

// A step that ran ahead may hold rows of requests that have ended meanwhile.
void Engine::Loop::count_work(const Batch& batch) {
  const auto count = [this](std::span<const RequestId> ids,
                            std::span<const kernels::AttentionSeq> seqs, attention::Phase phase) {
    for (size_t seq = 0; seq < ids.size(); ++seq) {
      const auto running = running_.find(ids[seq]);
      if (running == running_.end()) continue;
      running->second->count(attention_, phase, seq, seqs[seq].evicted + seqs[seq].kv_len);
    }
  };
  count(batch.prefill_ids(), batch.prefill(), attention::Phase::kPrefill);
  count(batch.decode_ids(), batch.decode(), attention::Phase::kDecode);
}

void Engine::Loop::account(const scheduler::StepPlan& plan) {
  PrefillCallback callback;
  {
    const std::lock_guard lock(mutex_);
    callback = prefill_callback_;
  }
  for (const scheduler::SeqWork& work : plan.work) {
    const auto found = running_.find(work.id);
    if (found == running_.end()) continue;
    Running& running = *found->second;
    running.hold_pages(held_pages(scheduler_, work.id));
    if (work.prompt_done) running.prompt_done();
    if (callback && work.phase == scheduler::Phase::kPrefill) {
      callback(work.start + work.count, running.prompt_len());
    }
  }
}

void Engine::Loop::end_prompts(const Flight& flight) {
  // Prompt rows come first in a plan, in the order of the batch's prefill sequences.
  const std::span<const kernels::AttentionSeq> prompts = flight.batch.prefill();
  for (size_t idx = 0; idx < prompts.size(); ++idx) {
    if (!flight.plan.work[idx].prompt_done) continue;
    const RequestId id = flight.plan.work[idx].id;
    const auto found = running_.find(id);
    if (found == running_.end()) continue;  // cancelled while the step ran
    Running& running = *found->second;
    const auto prompt_len = static_cast<int32_t>(running.prompt_len());
    if (running.request().sampling.max_tokens <= 1) {  // nothing is decoded
      running.count_prompt(prompt_len);
      continue;
    }
    const std::span<const kv::PageId> fresh = scheduler_.spare_pages(id);
    setup_.attention->after_prefill({.seq = prompts[idx],
                                     .state = running.state(),
                                     .kv = views_,
                                     .fresh = fresh,
                                     .trace = running.trace()},
                                    stream_);
    running.count_prompt(setup_.attention->reached_tokens(prompt_len));
    if (fresh.empty()) continue;
    scheduler_.compact(id);
    running.hold_pages(held_pages(scheduler_, id));
  }
}

void Engine::Loop::publish(Flight& flight, std::span<const RowResult> rows) {
  const std::span<const LogitRow> logit_rows = flight.batch.logit_rows();
  FOVEAL_INVARIANT(rows.size() == logit_rows.size());
  for (size_t idx = 0; idx < rows.size(); ++idx) {
    try {
      publish_row(logit_rows[idx], rows[idx]);
    } catch (const Error& error) {
      end(logit_rows[idx].id, FinishReason::kError, error);
    }
  }
  for (const scheduler::SeqWork& work : flight.plan.work) {
    if (work.prompt_done && !work.sample) end_if_only_prompt(work.id);
  }
  flight.plan = {};
}

void Engine::Loop::publish_row(const LogitRow& row, const RowResult& result) {
  const auto found = running_.find(row.id);
  if (found == running_.end()) return;  // it ended at an earlier row or with the step before
  Running& running = *found->second;
  if (result.use == RowUse::kScore) {
    running.keep_score(row.position, result.score);
  } else if (running.prompt_use(row.position) != RowUse::kNothing) {
    running.keep_logits(row.position, result.logits);
  }
  if (!row.sample) return;
  counted_.generated_tokens += 1;
  int32_t token = result.token;
  const bool pending = running.pending_row() >= 0;
  const FinishReason reason = result.use == RowUse::kChoose ? running.take(token, result.flags)
                                                            : running.sample(result.logits, &token);
  if (pending) {
    scheduler_.settle_token(row.id, token);
  } else {
    scheduler_.append_token(row.id, token);
  }
  if (reason != FinishReason::kNone) end(row.id, reason);
}

void Engine::Loop::end_if_only_prompt(RequestId id) {
  const auto found = running_.find(id);
  if (found == running_.end()) return;
  if (found->second->request().sampling.max_tokens == 0) end(id, FinishReason::kLength);
}

// Of both steps that may be under way: the second one was planned with the first one's tokens.
void Engine::Loop::fail_all(const Error& error) {
  const size_t before = running_.size();
  for (Flight& flight : flights_) {
    for (const scheduler::SeqWork& work : flight.plan.work) {
      end(work.id, FinishReason::kError, error);
    }
    flight.plan = {};
  }
  flying_ = nullptr;
  // What is wrong with the device for good shows here again, or in every step, and ends the engine;
  // and so does what no request can be blamed for, since the next step would meet it again.
  stream_.synchronize();
  constexpr int kMostFailures = 3;
  if (device_step_ && error.kind() == ErrorKind::kInternal) ++failed_steps_;
  if (running_.size() == before || failed_steps_ >= kMostFailures) throw error;
}

}  // namespace foveal::engine

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
  const scheduler::StepPlan plan = scheduler_.next_step();
  if (plan.empty()) {
    note_stats();
    return flush_events();
  }
  counted_.steps += 1;
  counted_.preemptions += plan.preempted.size();
  try {
    prepare(plan);
    compute(plan);
  } catch (const Error& error) {
    fail_all(plan, error);
  } catch (const std::bad_alloc&) {
    fail_all(plan, Error(ErrorKind::kOutOfMemory,
                         "[engine] got no memory for a step; need more, or smaller steps"));
  } catch (const std::exception& error) {
    fail_all(plan, unexpected(error));
  }
}

void Engine::Loop::prepare(const scheduler::StepPlan& plan) {
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
  batch_.build(plan, scheduler_, [this](RequestId id) {
    const Running& running = *running_.at(id);
    return Batch::Wishes{.logits_from = running.logits_from(),
                         .factors = running.factors(),
                         .state = running.state()};
  });
}

void Engine::Loop::compute(const scheduler::StepPlan& plan) {
  if (device_step_) return compute_on_device(plan);
  model::ForwardInput input = batch_.input(views_, setup_.exact);
  if (traced_ != 0) input.trace = running_.at(traced_)->trace();
  attention_.begin(input.prefill, input.decode, batch_.states());
  float* logits = model_->forward(input, attention_, stream_);
  count_work();
  account(plan);
  end_prompts(plan);
  const auto vocab = static_cast<size_t>(model_->config().vocab_size);
  std::vector<RowResult> rows(batch_.logit_rows().size());
  for (RowResult& row : rows) {
    row.logits = {logits, vocab};
    logits += vocab;
  }
  publish(plan, rows);
}

void Engine::Loop::compute_on_device(const scheduler::StepPlan& plan) {
  attention_.begin(batch_.prefill(), batch_.decode(), batch_.states());
  device_step_->launch(batch_, stale_, [this](const LogitRow& row, auto& how, auto& edits) {
    const Running& running = *running_.at(row.id);
    const bool kept = row.position >= running.logits_from() && row.position < running.prompt_len();
    return row.sample && !kept && running.describe(how, edits);
  });
  // Of steps that follow a decode and only decode: others are issued kernel by kernel, and the
  // device works meanwhile.
  if (step_ended_ && batch_.prefill().empty()) {
    const auto gap = Clock::now() - *step_ended_;
    counted_.host_gap_ns += static_cast<uint64_t>(std::chrono::nanoseconds(gap).count());
    counted_.host_gaps += 1;
  }
  // While the device works: callers get the tokens of the step before, and what the step is known
  // to do is counted, but for prompts, whose time ends with the step.
  flush_events();
  const bool early = batch_.prefill().empty() && !device_step_->counts_on_device();
  const auto count = [&] {
    device_step_->collect();
    count_work();
    account(plan);
  };
  if (early) count();
  note_stats();
  const std::span<const RowResult> rows = device_step_->wait();
  step_ended_ = Clock::now();
  if (!early) count();
  end_prompts(plan);
  publish(plan, rows);
}

void Engine::Loop::flush_events() {
  for (auto& [id, running] : running_) running->flush();
}

void Engine::Loop::count_work() {
  const auto count = [this](std::span<const RequestId> ids,
                            std::span<const kernels::AttentionSeq> seqs, attention::Phase phase) {
    for (size_t seq = 0; seq < ids.size(); ++seq) {
      const int32_t end = seqs[seq].evicted + seqs[seq].kv_len;
      running_.at(ids[seq])->count(attention_, phase, seq, end);
    }
  };
  count(batch_.prefill_ids(), batch_.prefill(), attention::Phase::kPrefill);
  count(batch_.decode_ids(), batch_.decode(), attention::Phase::kDecode);
}

void Engine::Loop::account(const scheduler::StepPlan& plan) {
  PrefillCallback callback;
  {
    const std::lock_guard lock(mutex_);
    callback = prefill_callback_;
  }
  for (const scheduler::SeqWork& work : plan.work) {
    Running& running = *running_.at(work.id);
    running.hold_pages(held_pages(scheduler_, work.id));
    if (work.prompt_done) running.prompt_done();
    if (callback && work.phase == scheduler::Phase::kPrefill) {
      callback(work.start + work.count, running.prompt_len());
    }
  }
}

void Engine::Loop::end_prompts(const scheduler::StepPlan& plan) {
  // Prompt rows come first in a plan, in the order of the batch's prefill sequences.
  for (size_t idx = 0; idx < batch_.prefill().size(); ++idx) {
    if (!plan.work[idx].prompt_done) continue;
    const RequestId id = plan.work[idx].id;
    Running& running = *running_.at(id);
    const auto prompt_len = static_cast<int32_t>(running.prompt_len());
    if (running.request().sampling.max_tokens <= 1) {  // nothing is decoded
      running.count_prompt(prompt_len);
      continue;
    }
    const std::span<const kv::PageId> fresh = scheduler_.spare_pages(id);
    setup_.attention->after_prefill({.seq = batch_.prefill()[idx],
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

void Engine::Loop::publish(const scheduler::StepPlan& plan, std::span<const RowResult> rows) {
  FOVEAL_INVARIANT(rows.size() == batch_.logit_rows().size());
  for (size_t idx = 0; idx < rows.size(); ++idx) {
    const LogitRow& row = batch_.logit_rows()[idx];
    try {
      publish_row(row, rows[idx]);
    } catch (const Error& error) {
      end(row.id, FinishReason::kError, error);
    }
  }
  for (const scheduler::SeqWork& work : plan.work) {
    if (work.prompt_done && !work.sample) end_if_only_prompt(work.id);
  }
}

void Engine::Loop::publish_row(const LogitRow& row, const RowResult& result) {
  const auto found = running_.find(row.id);
  if (found == running_.end()) return;  // failed at an earlier row
  Running& running = *found->second;
  if (row.position >= running.logits_from() && row.position < running.prompt_len()) {
    running.keep_logits(row.position, result.logits);
  }
  if (!row.sample) return;
  counted_.generated_tokens += 1;
  int32_t token = result.token;
  const FinishReason reason = result.logits.empty() ? running.take(token, result.flags)
                                                    : running.sample(result.logits, &token);
  scheduler_.append_token(row.id, token);
  if (reason != FinishReason::kNone) end(row.id, reason);
}

void Engine::Loop::end_if_only_prompt(RequestId id) {
  const auto found = running_.find(id);
  if (found == running_.end()) return;
  if (found->second->request().sampling.max_tokens == 0) end(id, FinishReason::kLength);
}

void Engine::Loop::fail_all(const scheduler::StepPlan& plan, const Error& error) {
  for (const scheduler::SeqWork& work : plan.work) end(work.id, FinishReason::kError, error);
}

}  // namespace foveal::engine

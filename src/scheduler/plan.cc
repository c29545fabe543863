#include <algorithm>

#include "base/check.h"
#include "scheduler/impl.h"

namespace foveal::scheduler {

StepPlan Scheduler::next_step() {
  StepPlan plan;
  for (Sequence* sequence : impl_->running) {
    FOVEAL_INVARIANT(sequence->spare.empty());  // what was read has been compacted
    impl_->publish(*sequence);
  }
  const std::vector<SeqWork> decodes = impl_->plan_decodes(plan);
  int32_t budget = impl_->config.max_step_tokens - static_cast<int32_t>(decodes.size());
  // Whoever decodes waits for one chunk at a time, however many prompts there are.
  if (!decodes.empty()) budget = std::min(budget, impl_->config.prefill_chunk);
  impl_->plan_prefills(budget, plan);
  for (const SeqWork& chunk : plan.work) budget -= chunk.count;
  // Whoever was preempted a moment ago would take back the pages that others were given for it.
  if (plan.preempted.empty()) impl_->plan_admissions(budget, plan);
  plan.work.insert(plan.work.end(), decodes.begin(), decodes.end());
  return plan;
}

// ---- pages ----

bool Scheduler::Impl::could_free(int64_t count) const {
  const int64_t lacking = count - allocator.num_free();
  if (lacking <= 0) return true;
  return prefix != nullptr && lacking <= prefix->num_pages() && lacking <= prefix->num_evictable();
}

bool Scheduler::Impl::make_free(int64_t count) {
  // Nobody needs more than the pool, whose ids are int32 (see `add`).
  const auto lacking = static_cast<int32_t>(count - allocator.num_free());
  return lacking <= 0 || (prefix != nullptr && prefix->evict(lacking) >= lacking);
}

int64_t Scheduler::Impl::target_pages(const Sequence& sequence) const {
  const int64_t more = std::min<int64_t>(sequence.max_new_tokens,
                                         int64_t{sequence.num_generated()} + config.page_size);
  const bool reads = !sequence.prompt_computed() || !sequence.spare.empty();
  return reads ? most_pages(sequence.prompt_len, sequence.kept, more)
               : pages_for(sequence.kept + more);
}

int64_t Scheduler::Impl::spare_for(const Sequence& sequence, int32_t end) const {
  return sequence.compacts() && end == sequence.prompt_len ? pages_for(sequence.kept) : 0;
}

int64_t Scheduler::Impl::pages_missing(const Sequence& sequence, int32_t end) const {
  const int64_t needed = pages_for(end - sequence.evicted) + spare_for(sequence, end);
  return std::max<int64_t>(0, needed - sequence.num_pages());
}

void Scheduler::Impl::grow(Sequence& sequence, int32_t end, StepPlan& plan) {
  const bool enough = make_free(pages_missing(sequence, end));
  FOVEAL_INVARIANT(enough);
  const auto fill = [&](std::vector<kv::PageId>& table, int64_t count) {
    while (static_cast<int64_t>(table.size()) < count) {
      plan.new_pages.push_back(*allocator.allocate());
      table.push_back(plan.new_pages.back());
    }
  };
  fill(sequence.pages, pages_for(end - sequence.evicted));
  fill(sequence.spare, spare_for(sequence, end));
}

void Scheduler::Impl::preempt_latest(StepPlan& plan) {
  Sequence* latest = running.back();
  running.pop_back();
  release_all(*latest);
  waiting.push_front(latest);
  plan.preempted.push_back(latest->id);
}

// ---- decode ----

std::vector<SeqWork> Scheduler::Impl::plan_decodes(StepPlan& plan) {
  std::vector<SeqWork> rows;
  // By index: the list shrinks from its end while we walk it. Victims are never behind us, so no
  // planned row loses its pages.
  for (size_t idx = 0; idx < running.size(); ++idx) {
    Sequence& sequence = *running[idx];
    if (!sequence.decode_due()) continue;
    const int32_t position = sequence.computed;
    while (idx < running.size() && !make_free(pages_missing(sequence, position + 1))) {
      // A request alone has the whole pool, and `add` made sure that it fits.
      FOVEAL_INVARIANT(running.size() > 1);
      preempt_latest(plan);
    }
    if (idx >= running.size()) break;  // it was the latest itself
    grow(sequence, position + 1, plan);
    const bool newest = position == sequence.num_tokens() - 1;
    rows.push_back({.id = sequence.id,
                    .phase = Phase::kDecode,
                    .start = position,
                    .count = 1,
                    .prompt_done = false,
                    .sample = newest});
    sequence.computed = position + 1;
    sequence.awaits_token = newest;
  }
  return rows;
}

// ---- prefill ----

/// Where the next chunk ends when only rows are scarce; `computed` when none can be had.
int32_t Scheduler::Impl::chunk_end(const Sequence& sequence, int32_t budget) const {
  const int32_t left = sequence.prompt_len - sequence.computed;
  const int32_t take = std::min({left, config.prefill_chunk, budget});
  if (take == left) return sequence.prompt_len;
  const int32_t end = sequence.computed + take;
  return std::max(sequence.computed, end - end % config.chunk_multiple);
}

/// The same when pages are scarce too.
int32_t Scheduler::Impl::affordable_end(const Sequence& sequence, int32_t end) {
  if (make_free(pages_missing(sequence, end))) return end;
  // What is free holds some of it; a prompt's end waits for its spare pages too.
  const int64_t pages = sequence.num_pages() + int64_t{allocator.num_free()};
  const int32_t last = spare_for(sequence, end) > 0 ? end - 1 : end;
  const int64_t most = std::min<int64_t>(last, pages * config.page_size);
  return std::max(sequence.computed, static_cast<int32_t>(most - most % config.chunk_multiple));
}

void Scheduler::Impl::add_chunk(Sequence& sequence, int32_t end, StepPlan& plan) {
  grow(sequence, end, plan);
  const bool done = end == sequence.prompt_len;
  // With tokens already known, this is a replay: they follow through decode.
  const bool sample = done && sequence.num_generated() == 0 && sequence.wants_tokens();
  plan.work.push_back({.id = sequence.id,
                       .phase = Phase::kPrefill,
                       .start = sequence.computed,
                       .count = end - sequence.computed,
                       .prompt_done = done,
                       .sample = sample});
  sequence.computed = end;
  sequence.awaits_token = sample;
}

void Scheduler::Impl::plan_prefills(int32_t budget, StepPlan& plan) {
  for (Sequence* sequence : running) {
    if (budget == 0) return;
    if (sequence->prompt_computed()) continue;
    // Decodes may have taken pages that were free when this prompt was let in. It waits for them,
    // and not for ever: prompts never outgrow the pool among themselves (see `admit`), decodes go
    // on, and nobody else is let in meanwhile.
    const int32_t end = affordable_end(*sequence, chunk_end(*sequence, budget));
    if (end == sequence->computed) continue;
    budget -= end - sequence->computed;
    add_chunk(*sequence, end, plan);
  }
}

// ---- admission ----

void Scheduler::Impl::plan_admissions(int32_t budget, StepPlan& plan) {
  int64_t reserve = 0;
  for (const Sequence* sequence : running) {
    // Those further back wait for rows or pages, and whoever comes now would compete for them.
    if (!sequence->prompt_computed() && std::ranges::none_of(plan.work, [&](const SeqWork& work) {
          return work.id == sequence->id;
        })) {
      return;
    }
    reserve += std::max<int64_t>(0, target_pages(*sequence) - sequence->num_pages());
  }
  while (!waiting.empty() && budget > 0 && static_cast<int32_t>(running.size()) < max_running) {
    Sequence& sequence = *waiting.front();
    if (!admit(sequence, budget, reserve, plan)) return;
    budget -= plan.work.back().count;
    reserve += std::max<int64_t>(0, target_pages(sequence) - sequence.num_pages());
  }
}

/// Starts the head of the queue if its whole known text and a page of new tokens fit beside what
/// the running requests may need soon. To look at the first chunk only would let in long prompts
/// that are preempted half-way.
bool Scheduler::Impl::admit(Sequence& sequence, int32_t budget, int64_t reserve, StepPlan& plan) {
  if (sequence.reuse_prefix) {
    // At least one prompt token must be computed: its row gives the first logits.
    const int32_t free_to_reuse = std::max(0, sequence.prompt_len - sequence.tail);
    const int64_t most = free_to_reuse / reuse_multiple * reuse_multiple;
    const auto prompt = std::span<const int32_t>(sequence.tokens);
    sequence.pages = prefix->match(sequence.prefix_root, prompt.first(static_cast<size_t>(most)));
    const int64_t found = static_cast<int64_t>(sequence.pages.size()) * config.page_size;
    const int64_t kept = found - found % reuse_multiple;
    while (static_cast<int64_t>(sequence.pages.size()) * config.page_size > kept) {
      allocator.release(sequence.pages.back());
      sequence.pages.pop_back();
    }
    sequence.reused = static_cast<int32_t>(kept);
    sequence.computed = sequence.reused;
  }
  const int64_t needed = target_pages(sequence) - sequence.num_pages() + reserve;
  const int32_t end = chunk_end(sequence, budget);
  if (end == sequence.computed || !could_free(needed)) {
    release_all(sequence);  // matched pages stay in the index
    return false;
  }
  waiting.pop_front();
  running.push_back(&sequence);
  sequence.running = true;
  plan.admitted.push_back(sequence.id);
  add_chunk(sequence, end, plan);
  return true;
}

}  // namespace foveal::scheduler

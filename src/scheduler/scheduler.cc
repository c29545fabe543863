#include "scheduler/scheduler.h"

#include <algorithm>
#include <numeric>

#include "base/check.h"
#include "scheduler/impl.h"

namespace foveal::scheduler {
namespace {

constexpr const char* kWhere = "scheduler";

void check_config(const SchedulerConfig& config, const kv::PrefixIndex* prefix) {
  const auto check = [](const char* name, int32_t value, int32_t least) {
    FOVEAL_CHECK(value >= least, ErrorKind::kInvalidArgument, kWhere, "got {} {}; need {} or more",
                 name, value, least);
  };
  check("max_batch_size", config.max_batch_size, 1);
  check("page_size", config.page_size, 1);
  check("max_queue", config.max_queue, 1);
  check("chunk_multiple", config.chunk_multiple, 1);
  // A smaller chunk could never reach the next place where a chunk may end.
  check("prefill_chunk", config.prefill_chunk, config.chunk_multiple);
  check("max_step_tokens", config.max_step_tokens, config.chunk_multiple);
  FOVEAL_CHECK(prefix == nullptr || prefix->page_size() == config.page_size,
               ErrorKind::kInvalidArgument, kWhere,
               "got a prefix index for another page size; need {}", config.page_size);
}

}  // namespace

Scheduler::Scheduler(const SchedulerConfig& config, kv::PageAllocator& allocator,
                     kv::PrefixIndex* prefix) {
  check_config(config, prefix);
  impl_.reset(new Impl{
      .config = config,
      .allocator = allocator,
      .prefix = prefix,
      .max_running = std::min(config.max_batch_size, config.max_step_tokens),
      .reuse_multiple = std::lcm<int64_t, int64_t>(config.chunk_multiple, config.page_size)});
}

Scheduler::~Scheduler() = default;

AddResult Scheduler::add(NewRequest request) {
  FOVEAL_CHECK(!request.prompt.empty(), ErrorKind::kInvalidArgument, kWhere,
               "got an empty prompt; need 1 token or more");
  FOVEAL_CHECK(request.max_new_tokens >= 0, ErrorKind::kInvalidArgument, kWhere,
               "got max_new_tokens {}; need 0 or more", request.max_new_tokens);
  FOVEAL_CHECK(!impl_->sequences.contains(request.id), ErrorKind::kInvalidArgument, kWhere,
               "got id {} twice; need a fresh one", request.id);
  const int64_t total = static_cast<int64_t>(request.prompt.size()) + request.max_new_tokens;
  const int64_t pool = static_cast<int64_t>(impl_->allocator.num_pages()) * impl_->config.page_size;
  // Positions are int32, whatever the pool holds.
  if (total > std::min<int64_t>(pool, std::numeric_limits<int32_t>::max())) {
    return AddResult::kNeverFits;
  }
  if (num_waiting() >= impl_->config.max_queue) return AddResult::kQueueFull;
  auto sequence = std::make_unique<Sequence>();
  sequence->id = request.id;
  sequence->prompt_len = static_cast<int32_t>(request.prompt.size());
  sequence->max_new_tokens = request.max_new_tokens;
  sequence->prefix_root = request.prefix_root;
  sequence->reuse_prefix = request.reuse_prefix && impl_->prefix != nullptr;
  sequence->tokens = std::move(request.prompt);
  impl_->waiting.push_back(sequence.get());
  impl_->sequences.emplace(request.id, std::move(sequence));
  return AddResult::kQueued;
}

bool Scheduler::cancel(RequestId id) {
  const auto found = impl_->sequences.find(id);
  if (found == impl_->sequences.end()) return false;
  impl_->erase(*found->second);
  return true;
}

void Scheduler::append_token(RequestId id, int32_t token) {
  Sequence& sequence = impl_->get(id);
  FOVEAL_INVARIANT(sequence.awaits_token && sequence.wants_tokens());
  impl_->publish(sequence);
  sequence.awaits_token = false;
  sequence.tokens.push_back(token);
}

void Scheduler::finish(RequestId id) {
  Sequence& sequence = impl_->get(id);
  impl_->publish(sequence);
  impl_->erase(sequence);
}

void Scheduler::release_pages(RequestId id, std::span<const int32_t> table_indices) {
  Sequence& sequence = impl_->get(id);
  impl_->publish(sequence);
  for (const int32_t idx : table_indices) {
    FOVEAL_INVARIANT(idx >= 0 && static_cast<size_t>(idx) < sequence.pages.size());
    kv::PageId& page = sequence.pages[static_cast<size_t>(idx)];
    FOVEAL_INVARIANT(page >= 0);
    impl_->allocator.release(page);
    page = -1;
  }
}

std::span<const kv::PageId> Scheduler::page_table(RequestId id) const {
  return impl_->get(id).pages;
}

int32_t Scheduler::reused_tokens(RequestId id) const { return impl_->get(id).reused; }

int32_t Scheduler::prompt_len(RequestId id) const { return impl_->get(id).prompt_len; }

int32_t Scheduler::num_tokens(RequestId id) const { return impl_->get(id).num_tokens(); }

int32_t Scheduler::token(RequestId id, int32_t position) const {
  const Sequence& sequence = impl_->get(id);
  FOVEAL_INVARIANT(position >= 0 && position < sequence.num_tokens());
  return sequence.tokens[static_cast<size_t>(position)];
}

int32_t Scheduler::num_running() const { return static_cast<int32_t>(impl_->running.size()); }

int32_t Scheduler::num_waiting() const { return static_cast<int32_t>(impl_->waiting.size()); }

Sequence& Scheduler::Impl::get(RequestId id) const {
  const auto found = sequences.find(id);
  if (found == sequences.end()) {
    fail(ErrorKind::kInternal, kWhere, "got id {}; need a request that has not ended", id);
  }
  return *found->second;
}

void Scheduler::Impl::erase(Sequence& sequence) {
  release_all(sequence);
  std::erase(waiting, &sequence);
  std::erase(running, &sequence);
  sequences.erase(sequence.id);
}

void Scheduler::Impl::release_all(Sequence& sequence) {
  for (const kv::PageId page : sequence.pages) {
    if (page >= 0) allocator.release(page);
  }
  sequence.pages.clear();
  sequence.computed = 0;
  sequence.reused = 0;
  sequence.running = false;
  sequence.awaits_token = false;
  sequence.published = false;
}

void Scheduler::Impl::publish(Sequence& sequence) {
  if (!sequence.reuse_prefix || sequence.published || !sequence.running ||
      !sequence.prompt_computed()) {
    return;
  }
  sequence.published = true;
  const auto num_full = static_cast<size_t>(sequence.prompt_len / config.page_size);
  const std::span<const kv::PageId> full = std::span(sequence.pages).first(num_full);
  // Pages behind a gap could not be found: an index entry needs all the entries before it.
  const auto gap = std::ranges::find(full, -1);
  prefix->insert(sequence.prefix_root,
                 std::span(sequence.tokens).first(static_cast<size_t>(sequence.prompt_len)),
                 full.first(static_cast<size_t>(gap - full.begin())));
}

int32_t Scheduler::Impl::pages_for(int32_t num_tokens) const {
  return num_tokens == 0 ? 0 : (num_tokens - 1) / config.page_size + 1;
}

}  // namespace foveal::scheduler

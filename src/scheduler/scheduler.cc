#include "scheduler/scheduler.h"

#include <algorithm>
#include <numeric>

#include "base/check.h"
#include "base/math.h"
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
  const auto prompt_len = static_cast<int64_t>(request.prompt.size());
  const int64_t kept = request.kept.value_or(prompt_len);
  FOVEAL_CHECK(kept >= 1 && kept <= prompt_len && request.tail >= 1, ErrorKind::kInvalidArgument,
               kWhere, "got {} kept tokens of {} and a tail of {}; need 1 or more, and no more",
               kept, prompt_len, request.tail);
  // Positions are int32, whatever the pool holds.
  if (prompt_len + request.max_new_tokens > std::numeric_limits<int32_t>::max() ||
      impl_->most_pages(prompt_len, kept, request.max_new_tokens) > impl_->allocator.num_pages()) {
    return AddResult::kNeverFits;
  }
  if (num_waiting() >= impl_->config.max_queue) return AddResult::kQueueFull;
  auto sequence = std::make_unique<Sequence>();
  sequence->id = request.id;
  sequence->prompt_len = static_cast<int32_t>(prompt_len);
  sequence->kept = static_cast<int32_t>(kept);
  sequence->tail = request.tail;
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
  FOVEAL_INVARIANT(sequence.awaits_token && sequence.wants_tokens() && sequence.spare.empty());
  FOVEAL_INVARIANT(sequence.tokens.back() != kPendingToken);
  impl_->publish(sequence);
  sequence.awaits_token = false;
  sequence.tokens.push_back(token);
}

void Scheduler::settle_token(RequestId id, int32_t token) {
  Sequence& sequence = impl_->get(id);
  FOVEAL_INVARIANT(sequence.tokens.back() == kPendingToken);
  sequence.tokens.back() = token;
}

void Scheduler::finish(RequestId id) {
  Sequence& sequence = impl_->get(id);
  impl_->publish(sequence);
  impl_->erase(sequence);
}

void Scheduler::compact(RequestId id) {
  Sequence& sequence = impl_->get(id);
  FOVEAL_INVARIANT(sequence.computed == sequence.prompt_len && !sequence.spare.empty());
  impl_->publish(sequence);
  for (const kv::PageId page : sequence.pages) impl_->allocator.release(page);
  sequence.pages = std::move(sequence.spare);
  sequence.spare.clear();
  sequence.evicted = sequence.prompt_len - sequence.kept;
}

std::span<const kv::PageId> Scheduler::page_table(RequestId id) const {
  return impl_->get(id).pages;
}

std::span<const kv::PageId> Scheduler::spare_pages(RequestId id) const {
  return impl_->get(id).spare;
}

int32_t Scheduler::evicted(RequestId id) const { return impl_->get(id).evicted; }

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
  for (const kv::PageId page : sequence.pages) allocator.release(page);
  for (const kv::PageId page : sequence.spare) allocator.release(page);
  sequence.pages.clear();
  sequence.spare.clear();
  sequence.computed = 0;
  sequence.evicted = 0;
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
  FOVEAL_INVARIANT(sequence.evicted == 0);  // what is copied is nobody else's
  const auto num_full = static_cast<size_t>(sequence.prompt_len / config.page_size);
  prefix->insert(sequence.prefix_root,
                 std::span(sequence.tokens).first(static_cast<size_t>(sequence.prompt_len)),
                 std::span(sequence.pages).first(num_full));
}

int64_t Scheduler::Impl::pages_for(int64_t num_tokens) const {
  return ceil_div(num_tokens, config.page_size);
}

int64_t Scheduler::Impl::most_pages(int64_t prompt_len, int64_t kept, int64_t num_new) const {
  const int64_t reading = kept == prompt_len ? 0 : pages_for(prompt_len) + pages_for(kept);
  return std::max(reading, pages_for(kept + num_new));
}

}  // namespace foveal::scheduler

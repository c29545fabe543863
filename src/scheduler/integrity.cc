#include <algorithm>

#include "base/check.h"
#include "scheduler/impl.h"

namespace foveal::scheduler {
namespace {

/// A page in two tables must hold the same text: the same place, root and tokens before its end.
void check_shared(const Sequence& a, const Sequence& b, size_t idx, int32_t page_size) {
  const auto end = (idx + 1) * static_cast<size_t>(page_size);
  FOVEAL_INVARIANT(a.prefix_root == b.prefix_root && a.reuse_prefix && b.reuse_prefix);
  FOVEAL_INVARIANT(a.evicted == 0 && b.evicted == 0);
  FOVEAL_INVARIANT(end <= static_cast<size_t>(std::min(a.prompt_len, b.prompt_len)));
  FOVEAL_INVARIANT(std::equal(a.tokens.begin(), a.tokens.begin() + static_cast<ptrdiff_t>(end),
                              b.tokens.begin()));
}

void check_sequence(const Sequence& sequence, const SchedulerConfig& config) {
  const auto page_size = static_cast<size_t>(config.page_size);
  FOVEAL_INVARIANT(sequence.num_generated() >= 0 &&
                   sequence.num_generated() <= sequence.max_new_tokens);
  FOVEAL_INVARIANT(sequence.computed >= 0 && sequence.computed <= sequence.num_tokens());
  FOVEAL_INVARIANT(
      sequence.evicted == 0 ||
      (sequence.prompt_computed() && sequence.evicted == sequence.prompt_len - sequence.kept));
  FOVEAL_INVARIANT(sequence.spare.empty() ||
                   (sequence.evicted == 0 && sequence.computed == sequence.prompt_len));
  FOVEAL_INVARIANT(sequence.pages.size() * page_size >=
                   static_cast<size_t>(sequence.computed - sequence.evicted));
  FOVEAL_INVARIANT(sequence.reused <= sequence.computed && sequence.reused < sequence.prompt_len);
  FOVEAL_INVARIANT(sequence.reused % config.page_size == 0 &&
                   sequence.reused % config.chunk_multiple == 0);
  FOVEAL_INVARIANT(sequence.prompt_computed() || sequence.computed % config.chunk_multiple == 0);
  if (!sequence.running) {
    FOVEAL_INVARIANT(sequence.num_pages() == 0 && sequence.computed == 0 && sequence.evicted == 0);
  }
}

}  // namespace

void Scheduler::check_integrity() const {
  struct Holder {
    const Sequence* sequence = nullptr;
    size_t idx = 0;
  };
  const kv::PageAllocator& allocator = impl_->allocator;
  const auto num_pages = static_cast<size_t>(allocator.num_pages());
  std::vector<int32_t> refs(num_pages, 0);
  std::vector<Holder> holders(num_pages);
  FOVEAL_INVARIANT(impl_->sequences.size() == impl_->running.size() + impl_->waiting.size());
  for (const Sequence* sequence : impl_->waiting) {
    FOVEAL_INVARIANT(!sequence->running);
    check_sequence(*sequence, impl_->config);
  }
  for (const Sequence* sequence : impl_->running) {
    FOVEAL_INVARIANT(sequence->running);
    check_sequence(*sequence, impl_->config);
    for (const kv::PageId page : sequence->spare) {
      FOVEAL_INVARIANT(refs[static_cast<size_t>(page)]++ == 0);
    }
    for (size_t idx = 0; idx < sequence->pages.size(); ++idx) {
      const auto page = static_cast<size_t>(sequence->pages[idx]);
      FOVEAL_INVARIANT(page < num_pages);
      Holder& holder = holders[page];
      if (refs[page]++ == 0) {
        holder = {.sequence = sequence, .idx = idx};
        continue;
      }
      FOVEAL_INVARIANT(holder.sequence != nullptr && holder.sequence != sequence);
      FOVEAL_INVARIANT(holder.idx == idx);
      check_shared(*holder.sequence, *sequence, idx, impl_->config.page_size);
    }
  }
  if (impl_->prefix != nullptr) {
    impl_->prefix->check_integrity();
    for (const kv::PageId page : impl_->prefix->pages()) ++refs[static_cast<size_t>(page)];
  }
  for (const Sequence* sequence : impl_->running) {
    if (sequence->evicted == 0) continue;
    for (const kv::PageId page : sequence->pages) {
      FOVEAL_INVARIANT(refs[static_cast<size_t>(page)] == 1);  // nobody else's, nor the index's
    }
  }
  int32_t num_held = 0;
  for (size_t page = 0; page < num_pages; ++page) {
    FOVEAL_INVARIANT(refs[page] == allocator.refs(static_cast<kv::PageId>(page)));
    if (refs[page] > 0) ++num_held;
  }
  FOVEAL_INVARIANT(num_held + allocator.num_free() == allocator.num_pages());
}

}  // namespace foveal::scheduler

#pragma once

#include <deque>
#include <limits>
#include <memory>
#include <unordered_map>
#include <vector>

#include "scheduler/scheduler.h"

namespace foveal::scheduler {

/// A request and what it holds. Positions [0, computed) have their K and V in `pages`.
struct Sequence {
  RequestId id = 0;
  int32_t prompt_len = 0;
  int32_t max_new_tokens = 0;
  uint64_t prefix_root = 0;
  bool reuse_prefix = true;

  int32_t kept = 0;  ///< prompt tokens that stay; prompt_len: all
  int32_t tail = 1;

  std::vector<int32_t> tokens;    ///< prompt, then generated
  std::vector<kv::PageId> pages;  ///< page table
  std::vector<kv::PageId> spare;  ///< where the kept part of a prompt just read will lie
  int32_t computed = 0;           ///< positions handed out in plans since the latest admission
  int32_t evicted = 0;            ///< of them, those left behind by `compact`
  int32_t reused = 0;
  bool running = false;
  bool awaits_token = false;  ///< a row with sample == true is out, its token not yet in
  bool published = false;

  int32_t num_tokens() const { return static_cast<int32_t>(tokens.size()); }
  int32_t num_generated() const { return num_tokens() - prompt_len; }
  bool prompt_computed() const { return computed >= prompt_len; }
  bool wants_tokens() const { return num_generated() < max_new_tokens; }
  bool compacts() const { return kept < prompt_len; }
  int32_t num_pages() const { return static_cast<int32_t>(pages.size() + spare.size()); }
  /// A decode row is due: a replayed token, or the newest one when another may follow.
  bool decode_due() const {
    return prompt_computed() && computed < num_tokens() &&
           (computed < num_tokens() - 1 || wants_tokens());
  }
};

struct Scheduler::Impl {
  SchedulerConfig config;
  kv::PageAllocator& allocator;
  kv::PrefixIndex* prefix;
  int32_t max_running;     ///< so that every running request can have a row
  int64_t reuse_multiple;  ///< a reused prefix ends at a page's and a chunk's end
  std::unordered_map<RequestId, std::unique_ptr<Sequence>> sequences = {};
  std::deque<Sequence*> waiting = {};
  std::vector<Sequence*> running = {};  ///< in admission order

  Sequence& get(RequestId id) const;
  void erase(Sequence& sequence);
  void release_all(Sequence& sequence);
  /// Puts the prompt's full pages into the prefix index, once. Only when they have been computed:
  /// a plan has been carried out when the engine asks for the next or reports about it.
  void publish(Sequence& sequence);

  int64_t pages_for(int64_t num_tokens) const;
  /// The most pages a request holds at once.
  int64_t most_pages(int64_t prompt_len, int64_t kept, int64_t num_new) const;
  /// Pages a request may come to hold soon: its known tokens and a page of new ones, or while it
  /// keeps a whole prompt that it will not keep, that and the copy.
  int64_t target_pages(const Sequence& sequence) const;
  /// True when `count` pages are free or could be made free. May walk the prefix index.
  bool could_free(int64_t count) const;
  /// Evicts prefix pages until `count` pages are free. False when there are not so many.
  bool make_free(int64_t count);
  /// Appends pages so that positions up to `end` can be written, and spare ones at the prompt's
  /// end.
  void grow(Sequence& sequence, int32_t end, StepPlan& plan);
  int64_t pages_missing(const Sequence& sequence, int32_t end) const;
  /// Where the copy of what its prompt keeps will lie, when a chunk that ends at `end` ends it.
  int64_t spare_for(const Sequence& sequence, int32_t end) const;

  void preempt_latest(StepPlan& plan);
  std::vector<SeqWork> plan_decodes(StepPlan& plan);
  void plan_prefills(int32_t budget, StepPlan& plan);
  int32_t chunk_end(const Sequence& sequence, int32_t budget) const;
  int32_t affordable_end(const Sequence& sequence, int32_t end);
  void add_chunk(Sequence& sequence, int32_t end, StepPlan& plan);
  void plan_admissions(int32_t budget, StepPlan& plan);
  bool admit(Sequence& sequence, int32_t budget, int64_t reserve, StepPlan& plan);
};

}  // namespace foveal::scheduler

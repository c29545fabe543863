#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "kv/page_allocator.h"
#include "kv/prefix_index.h"

namespace foveal::scheduler {

using RequestId = uint64_t;

/// In place of a token that is chosen but not known yet.
inline constexpr int32_t kPendingToken = -1;

enum class Phase : uint8_t { kPrefill, kDecode };

struct SchedulerConfig {
  int32_t max_batch_size = 64;     ///< requests running at once (never above max_step_tokens)
  int32_t max_step_tokens = 2048;  ///< rows of a step, all requests together
  int32_t prefill_chunk = 512;     ///< prompt tokens of one request in a step
  int32_t chunk_multiple = 1;      ///< chunks but a prompt's last end at multiples of this position
  int32_t page_size = 32;
  int32_t max_queue = 4096;  ///< waiting requests; `add` refuses beyond
};

struct NewRequest {
  RequestId id = 0;
  std::vector<int32_t> prompt;  ///< not empty
  int32_t max_new_tokens = 0;   ///< >= 0; 0: the prompt is only prefilled
  uint64_t prefix_root = 0;     ///< see kv::PrefixIndex::root
  bool reuse_prefix = true;     ///< false: neither looks up nor publishes prompt pages
  /// Prompt tokens that still have K and V once it has been read; absent: all. The others' are left
  /// behind by copying what stays into pages of its own (see `compact`).
  std::optional<int32_t> kept = {};
  int32_t tail = 1;  ///< last prompt tokens that are computed whatever the index holds
};

/// One request's share of a step.
struct SeqWork {
  RequestId id = 0;
  Phase phase = Phase::kPrefill;
  int32_t start = 0;         ///< position of the first row
  int32_t count = 0;         ///< rows; 1 in decode
  bool prompt_done = false;  ///< this chunk ends the prompt
  bool sample = false;  ///< a new token must be chosen from the last row (false within a prompt,
                        ///< while replaying after a preemption, and when max_new_tokens is 0)
};

struct StepPlan {
  std::vector<SeqWork> work;         ///< prefill first, then decode; each in admission order
  std::vector<RequestId> admitted;   ///< started (or restarted) in this step
  std::vector<RequestId> preempted;  ///< lost their pages; they wait and will be computed again
  std::vector<kv::PageId>
      new_pages;  ///< taken in this step: the engine zeroes them before the step
  bool empty() const { return work.empty(); }
};

enum class AddResult : uint8_t {
  kQueued,
  kQueueFull,
  kNeverFits,  ///< what it needs at once exceeds the whole pool
};

/// Decides what runs, and owns the page tables. Pure: no tensor, no device, no clock, no thread;
/// the same calls give the same plans.
///
/// Decodes go first (one row each), then prompt chunks in arrival order while rows are left: up to
/// max_step_tokens, but beside decodes no more than one chunk's rows in all, so that many long
/// prompts do not make a token wait longer than one does. When a decode needs a page and none is
/// free, evictable prefix pages go first, then the latest-admitted request is preempted: its pages
/// are released and it waits at the head of the queue. On return its prompt is prefilled again
/// (with its original chunk boundaries' multiples) and the tokens generated so far are replayed
/// through decode, one a step, so that its results do not change. The head of the queue is let in
/// when its known text and a page of new tokens fit beside what the running requests may need next,
/// so that it does not lose its pages at once; nobody overtakes it. After the last chunk of a
/// prompt, its full pages are put into the prefix index (when given): at the next call of
/// next_step, append_token, compact or finish for it, which all mean that the planned chunk was
/// computed. After a step that failed, `cancel` what was in it instead. A prompt found in the
/// index in full still computes its last tokens (`tail`, at least one), and the reused part is cut
/// to a multiple of chunk_multiple and of the page size.
///
/// A request that keeps part of its prompt holds the whole prompt's pages while it is read, and
/// with its last chunk the spare pages that the kept part is copied to. From then on it holds those
/// and what it generates: admission counts first the one, then the other. Its prompt's full pages
/// go into the index as everybody's; the copy never does.
class Scheduler {
 public:
  /// `prefix` may be null. Both are borrowed.
  Scheduler(const SchedulerConfig& config, kv::PageAllocator& allocator, kv::PrefixIndex* prefix);
  ~Scheduler();

  AddResult add(NewRequest request);
  /// False when the id is unknown (already finished). Frees its pages at once.
  bool cancel(RequestId id);

  /// The next step. Marks its work as done: call it once a step, then report sampled tokens.
  StepPlan next_step();

  /// The token chosen after a SeqWork with sample == true. It may come some steps late; a request
  /// that was preempted meanwhile must not get it (its row will come again).
  void append_token(RequestId id, int32_t token);
  /// The same where the token is chosen but not known yet: the next step is planned with it, at
  /// most one a request, and `token` says kPendingToken until `settle_token` brings it. A request
  /// that is preempted meanwhile gets it all the same.
  void append_pending(RequestId id) { append_token(id, kPendingToken); }
  void settle_token(RequestId id, int32_t token);
  /// The request has ended: its pages are released (published prompt pages stay in the index).
  void finish(RequestId id);
  /// What the prompt keeps has been copied to `spare_pages`: they become the page table and the
  /// prompt's own pages are released. Due after the chunk that ends the prompt of a request with
  /// spare pages, before anything else is reported about it.
  void compact(RequestId id);

  /// Empty while it waits. Valid until the next call that changes anything.
  std::span<const kv::PageId> page_table(RequestId id) const;
  /// Pages that what the prompt keeps is to be copied to; empty unless its last chunk is out and it
  /// keeps less than all.
  std::span<const kv::PageId> spare_pages(RequestId id) const;
  /// Positions that have no slot any more: position p lies in slot p - evicted of the page table.
  int32_t evicted(RequestId id) const;
  /// Prompt tokens taken from the prefix index at the latest admission.
  int32_t reused_tokens(RequestId id) const;
  int32_t prompt_len(RequestId id) const;
  /// Token at a position: prompt, then generated.
  int32_t token(RequestId id, int32_t position) const;
  int32_t num_tokens(RequestId id) const;

  int32_t num_running() const;
  int32_t num_waiting() const;
  bool idle() const { return num_running() == 0 && num_waiting() == 0; }
  /// Throws kInternal when any page is lost, shared wrongly or counted twice.
  void check_integrity() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace foveal::scheduler

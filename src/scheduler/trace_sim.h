#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <random>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "kv/page_allocator.h"
#include "kv/prefix_index.h"
#include "scheduler/scheduler.h"

namespace foveal::scheduler {

/// How a trace goes. Every probability is per step (or per prompt), in per cent.
struct TraceOptions {
  SchedulerConfig config;
  int32_t num_pages = 8;
  bool use_prefix_index = true;
  int32_t num_requests = 12;
  int32_t max_prompt = 24;
  int32_t max_new = 12;
  int32_t cancel_percent = 0;   ///< a random live request, between steps
  int32_t failure_percent = 0;  ///< a planned step is not carried out; part of it is cancelled
  int32_t compact_percent = 0;  ///< of prompts that keep random positions only
  int32_t delay_percent = 0;    ///< a sampled token is reported some steps late
};

/// Options drawn from a seed: small pools, odd sizes.
TraceOptions random_options(std::mt19937& rng);

/// Plays the engine against a scheduler: "computes" K and V as digests of a request's text up to a
/// position, writes them to the pages of the plan, and checks at every row that all earlier
/// positions read back as this request's own. Anything the scheduler gets wrong about pages,
/// positions, sharing or replay shows up as a wrong digest or a broken rule.
class TraceSim {
 public:
  TraceSim(const TraceOptions& options, uint32_t seed);

  /// Runs until every request has ended. Throws std::runtime_error with a sentence about the first
  /// rule that was broken.
  void run();

  int64_t num_steps() const { return num_steps_; }
  int64_t num_preempted() const { return num_preempted_; }
  int64_t num_reused_tokens() const { return num_reused_tokens_; }
  int64_t num_finished() const { return num_finished_; }
  int64_t num_compacted() const { return num_compacted_; }

 private:
  struct Request {
    uint64_t root = 0;
    bool reuse = true;
    int32_t prompt_len = 0;
    int32_t max_new = 0;
    int32_t kept = 0;  ///< prompt tokens that stay
    int32_t tail = 1;
    std::vector<int32_t> text;    ///< prompt and every token that should follow
    std::vector<uint64_t> state;  ///< digest up to each position of `text`
    int32_t known = 0;            ///< tokens reported to the scheduler, prompt included
    int32_t computed = 0;
    bool running = false;
    int64_t order = 0;            ///< of admission
    int32_t sample_due = 0;       ///< steps until the sampled token is reported; 0: none is out
    std::vector<int32_t> chosen;  ///< positions that stayed; empty: all

    /// Position p of those after the prompt lies in slot p - evicted().
    int32_t evicted() const {
      return chosen.empty() ? 0 : prompt_len - static_cast<int32_t>(chosen.size());
    }
  };

  void submit();
  void step();
  void check_plan(const StepPlan& plan);
  void check_order(const StepPlan& plan) const;
  void check_work(const SeqWork& work) const;
  void check_progress(const StepPlan& plan) const;
  void execute(const StepPlan& plan);
  void execute_row(const SeqWork& work, Request& request, int32_t position);
  void check_content(RequestId id, const Request& request, int32_t end);
  /// False when it failed half-way.
  bool compact(RequestId id, Request& request);
  void report_tokens();
  void cancel(RequestId id);
  void finish(RequestId id);
  void check_end();

  int32_t pages_for(int32_t num_tokens) const;
  bool never_fits(const Request& request) const;
  uint64_t& slot(std::span<const kv::PageId> table, int32_t idx);
  bool chance(int32_t percent);
  int32_t draw(int32_t least, int32_t most);
  void need(bool good, const std::string& rule) const;

  TraceOptions options_;
  std::mt19937 rng_;
  kv::PageAllocator allocator_;
  kv::PrefixIndex prefix_;
  Scheduler scheduler_;
  std::vector<uint64_t> content_;  ///< [num_pages][page_size]
  std::vector<std::vector<int32_t>> stems_;
  std::map<RequestId, Request> live_;
  std::deque<RequestId> queue_;
  RequestId next_id_ = 1;
  int64_t admissions_ = 0;
  int64_t num_steps_ = 0;
  int64_t num_preempted_ = 0;
  int64_t num_reused_tokens_ = 0;
  int64_t num_finished_ = 0;
  int64_t num_compacted_ = 0;
};

}  // namespace foveal::scheduler

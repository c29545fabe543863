#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "model/model.h"
#include "scheduler/scheduler.h"

namespace foveal::engine {

/// Which row of the logits answers which request.
struct LogitRow {
  scheduler::RequestId id = 0;
  int32_t position = 0;  ///< of the token the row was computed from
  bool sample = false;   ///< a token is to be chosen from it
};

/// What is to become of a row of logits.
enum class RowUse : uint8_t {
  kLogits,  ///< the host reads them
  kChoose,  ///< a device chooses a token by them
  kScore,   ///< a device tells the log-probability of a given token
  kNothing
};

/// A step plan as the arrays a model reads. Reused from step to step.
class Batch {
 public:
  /// What a request wants of its rows.
  struct Wishes {
    int64_t logits_from = 0;  ///< first position whose logits are kept; rows before it yield logits
                              ///< only where a token is sampled
    PhaseValue factors;       ///< its own; see AttentionSeq::own_skip_factor
    attention::SequenceState* state = nullptr;
    int32_t pending_row = -1;  ///< among the choices on the device: of a token not known yet
  };
  /// `wishes(id)`: a request's Wishes.
  template <class WishesOf>
  void build(const scheduler::StepPlan& plan, const scheduler::Scheduler& scheduler,
             const WishesOf& wishes) {
    clear();
    for (const scheduler::SeqWork& work : plan.work) add(work, scheduler, wishes(work.id));
  }

  /// Who takes intermediate tensors of the step that was built; null: nobody.
  void set_trace(TraceSink* trace) { trace_ = trace; }
  bool traced() const { return trace_ != nullptr; }

  /// Views into this batch; valid until the next build.
  model::ForwardInput input(std::span<const KvLayerView> kv, bool exact) const;
  std::span<const LogitRow> logit_rows() const { return logit_info_; }
  std::span<const int32_t> rows_with_logits() const { return logit_rows_; }  ///< the same, as rows
  /// One that is not known yet is -1 - the row of the choices on the device that has it.
  std::span<const int32_t> tokens() const { return tokens_; }
  int64_t prefill_rows() const { return prefill_rows_; }
  std::span<const kernels::AttentionSeq> prefill() const { return prefill_; }
  std::span<const kernels::AttentionSeq> decode() const { return decode_; }
  std::span<const scheduler::RequestId> prefill_ids() const { return prefill_ids_; }
  std::span<const scheduler::RequestId> decode_ids() const { return decode_ids_; }
  attention::AttentionStep::States states() const { return {prefill_states_, decode_states_}; }

 private:
  void clear();
  void add(const scheduler::SeqWork& work, const scheduler::Scheduler& scheduler,
           const Wishes& wishes);

  TraceSink* trace_ = nullptr;
  int64_t prefill_rows_ = 0;
  std::vector<int32_t> tokens_;
  std::vector<int32_t> positions_;
  std::vector<int32_t> logit_rows_;
  std::vector<LogitRow> logit_info_;
  std::vector<kernels::AttentionSeq> prefill_, decode_;
  std::vector<scheduler::RequestId> prefill_ids_, decode_ids_;
  std::vector<attention::SequenceState*> prefill_states_, decode_states_;
};

}  // namespace foveal::engine

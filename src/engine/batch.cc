#include "engine/batch.h"

#include <algorithm>
#include <limits>

namespace foveal::engine {
namespace {

float own_factor(const PhaseValue& factors, bool prefill) {
  constexpr double kMax = std::numeric_limits<float>::max();
  const std::optional<double>& factor = prefill ? factors.prefill : factors.decode;
  return factor ? static_cast<float>(std::min(*factor, kMax)) : -1.0F;
}

}  // namespace

void Batch::clear() {
  trace_ = nullptr;
  prefill_rows_ = 0;
  tokens_.clear();
  positions_.clear();
  logit_rows_.clear();
  logit_info_.clear();
  prefill_.clear();
  decode_.clear();
  prefill_ids_.clear();
  decode_ids_.clear();
  prefill_states_.clear();
  decode_states_.clear();
}

void Batch::add(const scheduler::SeqWork& work, const scheduler::Scheduler& scheduler,
                const Wishes& wishes) {
  const bool prefill = work.phase == scheduler::Phase::kPrefill;
  const auto first_row = static_cast<int32_t>(tokens_.size());
  const int32_t evicted = scheduler.evicted(work.id);
  const int32_t kv_len = work.start + work.count - evicted;
  const kernels::AttentionSeq seq{.q_begin = first_row,
                                  .q_len = work.count,
                                  .kv_len = kv_len,
                                  .evicted = evicted,
                                  .threshold_len = prefill ? scheduler.prompt_len(work.id) : kv_len,
                                  .pages = scheduler.page_table(work.id).data(),
                                  .own_skip_factor = own_factor(wishes.factors, prefill)};
  (prefill ? prefill_ : decode_).push_back(seq);
  (prefill ? prefill_ids_ : decode_ids_).push_back(work.id);
  (prefill ? prefill_states_ : decode_states_).push_back(wishes.state);
  if (prefill) prefill_rows_ += work.count;
  for (int32_t idx = 0; idx < work.count; ++idx) {
    const int32_t position = work.start + idx;
    const int32_t token = scheduler.token(work.id, position);
    tokens_.push_back(token == scheduler::kPendingToken ? -1 - wishes.pending_row : token);
    positions_.push_back(position);
    const bool sample = work.sample && idx + 1 == work.count;
    const bool kept = prefill && position >= wishes.logits_from;
    if (!sample && !kept) continue;
    logit_rows_.push_back(first_row + idx);
    logit_info_.push_back({.id = work.id, .position = position, .sample = sample});
  }
}

model::ForwardInput Batch::input(std::span<const KvLayerView> kv, bool exact) const {
  return {.rows = {.prefill = prefill_rows_,
                   .total = static_cast<int64_t>(tokens_.size()),
                   .exact = exact},
          .token_ids = tokens_.data(),
          .positions = positions_.data(),
          .prefill = prefill_,
          .decode = decode_,
          .kv = kv,
          .logit_rows = logit_rows_,
          .trace = trace_};
}

}  // namespace foveal::engine

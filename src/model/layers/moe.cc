#include "model/layers/moe.h"

#include <algorithm>
#include <array>

namespace foveal::model {

Moe::Moe(const Checkpoint& checkpoint, const ModelConfig& config, const std::string& prefix)
    : hidden_(config.hidden_size),
      experts_per_token_(config.experts_per_token),
      normalize_(config.norm_topk_prob),
      routing_(config.router),
      router_(load_linear(checkpoint, prefix + "gate", config.num_experts, config.hidden_size,
                          /*need_bias=*/false)) {
  if (routing_.sigmoid) router_bias_ = load_router_bias(checkpoint, prefix);
  if (config.shared_intermediate_size > 0) {
    shared_ = Mlp::load(checkpoint, config, DecoderTraits{}, prefix + "shared_experts.",
                        config.shared_intermediate_size);
  } else {
    check_no_shared_experts(checkpoint, prefix + "shared_experts.");
  }
  check_expert_count(checkpoint, prefix + "experts.");
  for (int32_t idx = 0; idx < config.num_experts; ++idx) {
    const ExpertWeights one = load_expert(checkpoint, prefix + "experts.", idx);
    experts_.emplace_back(Linear{one.gate, {}}, Linear{one.up, {}}, Linear{one.down, {}},
                          config.activation);
  }
}

void Moe::route(const StepRows& rows, const float* x, Stream& stream) {
  const auto num_experts = static_cast<int32_t>(experts_.size());
  float* logits = router_logits_.reserve(stream.device(), rows.total, num_experts);
  // Always in float32: it is a sliver of the work, and rounding here flips whole experts.
  const StepRows exact{.prefill = rows.prefill, .total = rows.total, .exact = true};
  std::array<kernels::GemmOutput, 1> routed{router_.output(logits, num_experts)};
  linear(exact, x, hidden_, hidden_, routed, stream);
  indices_.resize(static_cast<size_t>(rows.total * experts_per_token_));
  weights_.resize(indices_.size());
  kernels::moe_route({.logits = logits,
                      .m = rows.total,
                      .num_experts = num_experts,
                      .k = experts_per_token_,
                      .normalize = normalize_,
                      .indices = indices_.data(),
                      .weights = weights_.data(),
                      .sigmoid = routing_.sigmoid,
                      .bias = router_bias_.data(),
                      .num_groups = routing_.num_groups,
                      .topk_groups = routing_.topk_groups,
                      .scale = static_cast<float>(routing_.scale)},
                     stream);
}

StepRows Moe::gather(int32_t expert, const StepRows& rows, const float* x, float* gathered) {
  members_.clear();
  shares_.clear();
  StepRows share{.prefill = 0, .total = 0, .exact = rows.exact};
  for (size_t at = 0; at < indices_.size(); ++at) {
    if (indices_[at] != expert) continue;
    const int64_t row = static_cast<int64_t>(at) / experts_per_token_;
    std::copy_n(x + row * hidden_, hidden_, gathered + share.total * hidden_);
    members_.push_back(row);
    shares_.push_back(weights_[at]);
    share.prefill += row < rows.prefill ? 1 : 0;
    share.total += 1;
  }
  return share;
}

void Moe::run(const StepRows& rows, const float* x, const BlockOutput& output,
              LayerScratch& scratch, Stream& stream) {
  route(rows, x, stream);
  if (shared_) {
    shared_->run(rows, x, output, scratch, stream);
  } else if (!output.accumulate) {
    std::fill_n(output.y, rows.total * hidden_, 0.0F);
  }
  float* gathered = gathered_.reserve(stream.device(), rows.total, hidden_);
  float* produced = produced_.reserve(stream.device(), rows.total, hidden_);
  for (int32_t expert = 0; expert < static_cast<int32_t>(experts_.size()); ++expert) {
    const StepRows share = gather(expert, rows, x, gathered);
    if (share.total == 0) continue;
    experts_[static_cast<size_t>(expert)].run(share, gathered, {.y = produced}, scratch, stream);
    for (size_t idx = 0; idx < members_.size(); ++idx) {
      kernels::add_scaled(produced + static_cast<int64_t>(idx) * hidden_, shares_[idx],
                          output.y + members_[idx] * hidden_, hidden_, stream);
    }
  }
}

}  // namespace foveal::model

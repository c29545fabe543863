#pragma once

#include <optional>

#include "model/layers/attention_block.h"
#include "model/layers/index_projections.h"
#include "model/layers/latent_weights.h"

namespace foveal::model {

/// Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434, section 2.1), absorbed: what would
/// make a head's keys and values of a latent is applied to its query and to its result instead, so
/// that attention is over the latents themselves.
class LatentBlock {
 public:
  /// `rope` is borrowed.
  LatentBlock(const Checkpoint& checkpoint, const ModelConfig& config, int32_t layer,
              const RopeTable& rope);

  /// `x` [rows, hidden] is normed already.
  void run(const float* x, const BlockOutput& output, const ForwardInput& input,
           LayerScratch& scratch, attention::AttentionStep& attention, Stream& stream) const;

 private:
  void load_queries(const Checkpoint& checkpoint, const std::string& prefix, bool bias);
  void load_indexer(const Checkpoint& checkpoint, const ModelConfig& config,
                    const std::string& prefix);

  /// Queries of whole heads, and the query latent where there is one.
  void project_queries(const float* x, const ForwardInput& input, LayerScratch& scratch,
                       Stream& stream) const;
  void project_latents(const float* x, const ForwardInput& input, LayerScratch& scratch,
                       Stream& stream) const;
  void absorb(const ForwardInput& input, LayerScratch& scratch, Stream& stream) const;
  void attend(const attention::IndexInputs* index, const ForwardInput& input,
              const LayerScratch& scratch, attention::AttentionStep& attention,
              Stream& stream) const;
  void expand_values(const ForwardInput& input, LayerScratch& scratch, Stream& stream) const;
  void rotate(float* x, int64_t stride, int32_t num_heads, int32_t head_dim,
              const ForwardInput& input, Stream& stream) const;

  int32_t layer_;
  int32_t hidden_;
  int32_t num_heads_;
  LatentConfig dims_;
  float softmax_scale_;
  kernels::RopeStyle rope_style_;
  const RopeTable* rope_;
  Linear q_;  ///< where queries are projected in one step
  Linear q_a_, q_b_, kv_a_, o_;
  std::optional<Norm> q_norm_;
  Norm kv_norm_;
  LatentHeads heads_;
  std::optional<IndexProjections> indexer_;
};

}  // namespace foveal::model

#pragma once

#include <optional>

#include "model/arch/registry.h"
#include "model/layers/block_io.h"
#include "model/layers/latent_scratch.h"
#include "model/layers/norm.h"
#include "model/layers/rope_table.h"
#include "model/layers/weights.h"

namespace foveal::model {

/// Intermediate matrices that all layers share.
struct LayerScratch {
  Activation q;     ///< [rows, num_heads * head_dim]
  Activation k;     ///< [rows, num_kv_heads * head_dim]
  Activation v;     ///< [rows, num_kv_heads * head_dim]
  Activation out;   ///< [rows, num_heads * head_dim]
  Activation gate;  ///< [rows, intermediate]
  Activation up;    ///< [rows, intermediate]
  LatentScratch latent;
};

/// q, k, v projections, per-head norms, rope, K/V store, attention, output projection.
class AttentionBlock {
 public:
  /// `rope` is borrowed; null: this layer does not rotate.
  AttentionBlock(const Checkpoint& checkpoint, const ModelConfig& config,
                 const DecoderTraits& traits, int32_t layer, const RopeTable* rope);

  /// `x` [rows, hidden] is normed already.
  void run(const float* x, const BlockOutput& output, const ForwardInput& input,
           LayerScratch& scratch, attention::AttentionStep& attention, Stream& stream) const;

 private:
  void rotate(float* x, int32_t num_heads, const ForwardInput& input, Stream& stream) const;
  void store(const ForwardInput& input, const LayerScratch& scratch, Stream& stream) const;
  void attend(const ForwardInput& input, const LayerScratch& scratch,
              attention::AttentionStep& attention, Stream& stream) const;

  int32_t layer_ = 0;
  int32_t hidden_ = 0;
  int32_t num_heads_ = 0;
  int32_t num_kv_heads_ = 0;
  int32_t head_dim_ = 0;
  int32_t rotary_dim_ = 0;
  int32_t window_ = 0;
  float softmax_scale_ = 1;
  kernels::RopeStyle rope_style_ = kernels::RopeStyle::kHalf;
  const RopeTable* rope_ = nullptr;
  Linear q_, k_, v_, o_;
  std::optional<Norm> q_norm_, k_norm_;
};

}  // namespace foveal::model

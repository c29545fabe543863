#pragma once

#include <memory>
#include <vector>

#include "model/arch/registry.h"
#include "model/layers/activations.h"
#include "model/layers/attention_block.h"
#include "model/layers/latent_block.h"
#include "model/layers/mlp.h"
#include "model/layers/moe.h"
#include "model/layers/rope_table.h"
#include "model/model.h"

namespace foveal::model {

/// The decoder all registered architectures share; DecoderTraits say where they differ.
class Decoder : public Model {
 public:
  Decoder(const Checkpoint& checkpoint, const DecoderTraits& traits, int64_t max_positions,
          Stream& stream);

  float* forward(const ForwardInput& input, attention::AttentionStep& attention,
                 Stream& stream) override;
  const ModelConfig& config() const override { return config_; }

 private:
  struct Layer {
    std::unique_ptr<AttentionBlock> attention;  ///< exactly one of attention and latent
    std::unique_ptr<LatentBlock> latent;
    std::unique_ptr<Mlp> mlp;  ///< exactly one of mlp and moe
    std::unique_ptr<Moe> moe;
    Norm input_norm;
    Norm post_attention_norm;  ///< sandwich norms: after attention; else before the mlp
    Norm pre_mlp_norm;         ///< sandwich norms only
    Norm post_mlp_norm;        ///< sandwich norms only
  };

  Layer load_layer(const Checkpoint& checkpoint, int32_t idx);
  void run_layer(Layer& layer, int32_t idx, const ForwardInput& input,
                 attention::AttentionStep& attention, Stream& stream);
  float* run_logits(const ForwardInput& input, Stream& stream);
  void add_branch(int64_t rows, Stream& stream);

  ModelConfig config_;
  DecoderTraits traits_;
  std::vector<Layer> layers_;
  std::unique_ptr<RopeTable> rope_;
  std::unique_ptr<RopeTable> local_rope_;  ///< of sliding layers, where it differs
  WeightView embedding_;
  WeightView output_;
  Norm final_norm_;
  LayerScratch scratch_;
  Activation hidden_;  ///< residual stream [rows, hidden]
  Activation normed_;  ///< [rows, hidden]
  Activation branch_;  ///< a block's output before it joins the residual [rows, hidden]
  Activation last_;    ///< rows that want logits [logit rows, hidden]
  Activation logits_;  ///< [logit rows, vocab]
};

}  // namespace foveal::model

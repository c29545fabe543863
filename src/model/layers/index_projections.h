#pragma once

#include <vector>

#include "attention/method.h"
#include "model/layers/block_io.h"
#include "model/layers/latent_scratch.h"
#include "model/layers/rope_table.h"
#include "model/layers/weights.h"

namespace foveal::model {

/// What a layer's lightning indexer (DeepSeek Sparse Attention) sees of the rows: queries of its
/// own from the attention's query latent, one key a token, and a weight a head. What it makes of
/// them (Hadamard rotation, quantisation, scores, the choice) is the method's.
class IndexProjections {
 public:
  /// `prefix`: "model.layers.3.self_attn.indexer.".
  IndexProjections(const Checkpoint& checkpoint, const ModelConfig& config,
                   const std::string& prefix);

  /// `x` [rows, hidden] is normed already, and so is `q_low` [rows, q_rank].
  attention::IndexInputs run(const float* x, const float* q_low, const ForwardInput& input,
                             const RopeTable& rope, LatentScratch& scratch, Stream& stream) const;

 private:
  void rotate(float* x, int32_t num_heads, const ForwardInput& input, const RopeTable& rope,
              Stream& stream) const;

  int32_t hidden_;
  int32_t q_rank_;
  int32_t num_heads_;
  int32_t head_dim_;
  int32_t rope_dim_;
  kernels::RopeStyle rope_style_;
  Linear q_, k_, weights_;
  std::vector<float> k_norm_weight_, k_norm_bias_;
};

}  // namespace foveal::model

#include "model/layers/index_projections.h"

#include <array>

#include "model/layers/latent_norm.h"

namespace foveal::model {

IndexProjections::IndexProjections(const Checkpoint& checkpoint, const ModelConfig& config,
                                   const std::string& prefix)
    : hidden_(config.hidden_size),
      q_rank_(config.latent->q_rank),
      num_heads_(config.indexer->num_heads),
      head_dim_(config.indexer->head_dim),
      rope_dim_(config.latent->rope_dim),
      rope_style_(config.indexer->rope_interleave ? kernels::RopeStyle::kInterleaved
                                                  : kernels::RopeStyle::kHalf),
      q_(load_linear(checkpoint, prefix + "wq_b", int64_t{num_heads_} * head_dim_, q_rank_,
                     /*need_bias=*/false)),
      k_(load_linear(checkpoint, prefix + "wk", head_dim_, hidden_, /*need_bias=*/false)),
      weights_(load_linear(checkpoint, prefix + "weights_proj", num_heads_, hidden_,
                           /*need_bias=*/false)),
      k_norm_weight_(checkpoint.vector(prefix + "k_norm.weight", head_dim_)),
      k_norm_bias_(checkpoint.vector(prefix + "k_norm.bias", head_dim_)) {}

attention::IndexInputs IndexProjections::run(const float* x, const float* q_low,
                                             const ForwardInput& input, const RopeTable& rope,
                                             LatentScratch& scratch, Stream& stream) const {
  const int64_t rows = input.rows.total;
  const int64_t q_cols = int64_t{num_heads_} * head_dim_;
  float* q = scratch.index_q.reserve(stream.device(), rows, q_cols);
  float* k = scratch.index_k.reserve(stream.device(), rows, head_dim_);
  float* weights = scratch.index_weights.reserve(stream.device(), rows, num_heads_);

  std::array<kernels::GemmOutput, 1> to_q{q_.output(q, q_cols)};
  linear(input.rows, q_low, q_rank_, q_rank_, to_q, stream);
  std::array<kernels::GemmOutput, 1> to_k{k_.output(k, head_dim_)};
  linear(input.rows, x, hidden_, hidden_, to_k, stream);
  // Always in float32, as the reference has it: rounding here reorders keys.
  StepRows exact = input.rows;
  exact.exact = true;
  std::array<kernels::GemmOutput, 1> to_weights{weights_.output(weights, num_heads_)};
  linear(exact, x, hidden_, hidden_, to_weights, stream);

  kernels::layer_norm({.x = k,
                       .y = k,
                       .weight = k_norm_weight_.data(),
                       .bias = k_norm_bias_.data(),
                       .m = rows,
                       .n = head_dim_,
                       .x_stride = head_dim_,
                       .y_stride = head_dim_,
                       .eps = kLatentNormEps},
                      stream);
  rotate(q, num_heads_, input, rope, stream);
  rotate(k, 1, input, rope, stream);
  return {.q = q,
          .k = k,
          .weights = weights,
          .q_stride = q_cols,
          .k_stride = head_dim_,
          .weights_stride = num_heads_};
}

// The channels that rotate come first here, and last in an attention head.
void IndexProjections::rotate(float* x, int32_t num_heads, const ForwardInput& input,
                              const RopeTable& rope, Stream& stream) const {
  kernels::rope({.x = x,
                 .m = input.rows.total,
                 .x_stride = int64_t{num_heads} * head_dim_,
                 .num_heads = num_heads,
                 .head_dim = head_dim_,
                 .rotary_dim = rope_dim_,
                 .positions = input.positions,
                 .cos_table = rope.cos(),
                 .sin_table = rope.sin(),
                 .style = rope_style_},
                stream);
}

}  // namespace foveal::model

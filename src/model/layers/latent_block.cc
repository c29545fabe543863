#include "model/layers/latent_block.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "kernels/latent_attention.h"
#include "model/layers/latent_norm.h"

namespace foveal::model {

LatentBlock::LatentBlock(const Checkpoint& checkpoint, const ModelConfig& config, int32_t layer,
                         const RopeTable& rope)
    : layer_(layer),
      hidden_(config.hidden_size),
      num_heads_(config.num_heads),
      dims_(*config.latent),
      softmax_scale_(static_cast<float>(config.attention_scale)),
      rope_style_(config.rope_style),
      rope_(&rope) {
  const std::string prefix = fmt::format("model.layers.{}.self_attn.", layer);
  load_queries(checkpoint, prefix, config.attention_bias);
  kv_a_ = load_linear(checkpoint, prefix + "kv_a_proj_with_mqa", dims_.width(), hidden_,
                      config.attention_bias);
  kv_norm_ =
      Norm{checkpoint.vector(prefix + "kv_a_layernorm.weight", dims_.kv_rank), kLatentNormEps};
  heads_ = load_latent_heads(checkpoint, prefix);
  o_ = load_linear(checkpoint, prefix + "o_proj", hidden_, int64_t{num_heads_} * dims_.value_dim,
                   config.attention_bias);
  load_indexer(checkpoint, config, prefix + "indexer.");
}

void LatentBlock::load_queries(const Checkpoint& checkpoint, const std::string& prefix, bool bias) {
  const int64_t rows = int64_t{num_heads_} * (dims_.nope_dim + dims_.rope_dim);
  if (dims_.q_rank == 0) {
    q_ = load_linear(checkpoint, prefix + "q_proj", rows, hidden_, /*need_bias=*/false);
    return;
  }
  q_a_ = load_linear(checkpoint, prefix + "q_a_proj", dims_.q_rank, hidden_, bias);
  q_norm_ = Norm{checkpoint.vector(prefix + "q_a_layernorm.weight", dims_.q_rank), kLatentNormEps};
  q_b_ = load_linear(checkpoint, prefix + "q_b_proj", rows, dims_.q_rank, /*need_bias=*/false);
}

void LatentBlock::load_indexer(const Checkpoint& checkpoint, const ModelConfig& config,
                               const std::string& prefix) {
  if (config.indexer && config.indexer->full.at(static_cast<size_t>(layer_)) != 0) {
    indexer_.emplace(checkpoint, config, prefix);
    return;
  }
  check_no_indexer(checkpoint, prefix);
}

void LatentBlock::run(const float* x, const BlockOutput& output, const ForwardInput& input,
                      LayerScratch& scratch, attention::AttentionStep& attention,
                      Stream& stream) const {
  const int64_t rows = input.rows.total;
  const int64_t out_cols = int64_t{num_heads_} * dims_.value_dim;
  project_queries(x, input, scratch, stream);
  project_latents(x, input, scratch, stream);
  trace_rows(input, "q", layer_, scratch.q.data(),
             int64_t{num_heads_} * (dims_.nope_dim + dims_.rope_dim));
  trace_rows(input, "k", layer_, scratch.k.data(), dims_.width());
  attention::IndexInputs index;
  if (indexer_) {
    index = indexer_->run(x, scratch.latent.q_low.data(), input, *rope_, scratch.latent, stream);
  }
  absorb(input, scratch, stream);
  scratch.latent.values.reserve(stream.device(), rows, int64_t{num_heads_} * dims_.kv_rank);
  attend(indexer_ ? &index : nullptr, input, scratch, attention, stream);
  scratch.out.reserve(stream.device(), rows, out_cols);
  expand_values(input, scratch, stream);
  trace_rows(input, "attention", layer_, scratch.out.data(), out_cols);

  std::array<kernels::GemmOutput, 1> projected{o_.output(output.y, hidden_, output.accumulate)};
  linear(input.rows, scratch.out.data(), out_cols, out_cols, projected, stream);
}

void LatentBlock::project_queries(const float* x, const ForwardInput& input, LayerScratch& scratch,
                                  Stream& stream) const {
  const int64_t rows = input.rows.total;
  const int32_t head_dim = dims_.nope_dim + dims_.rope_dim;
  const int64_t cols = int64_t{num_heads_} * head_dim;
  float* q = scratch.q.reserve(stream.device(), rows, cols);
  if (q_norm_) {
    float* low = scratch.latent.q_low.reserve(stream.device(), rows, dims_.q_rank);
    std::array<kernels::GemmOutput, 1> down{q_a_.output(low, dims_.q_rank)};
    linear(input.rows, x, hidden_, hidden_, down, stream);
    q_norm_->run(low, dims_.q_rank, low, dims_.q_rank, rows, stream);
    std::array<kernels::GemmOutput, 1> up{q_b_.output(q, cols)};
    linear(input.rows, low, dims_.q_rank, dims_.q_rank, up, stream);
  } else {
    std::array<kernels::GemmOutput, 1> projected{q_.output(q, cols)};
    linear(input.rows, x, hidden_, hidden_, projected, stream);
  }
  rotate(q + dims_.nope_dim, cols, num_heads_, head_dim, input, stream);
}

void LatentBlock::project_latents(const float* x, const ForwardInput& input, LayerScratch& scratch,
                                  Stream& stream) const {
  const int64_t rows = input.rows.total;
  const int64_t width = dims_.width();
  float* latents = scratch.k.reserve(stream.device(), rows, width);
  std::array<kernels::GemmOutput, 1> down{kv_a_.output(latents, width)};
  linear(input.rows, x, hidden_, hidden_, down, stream);
  kv_norm_.run(latents, width, latents, width, rows, stream);
  rotate(latents + dims_.kv_rank, width, 1, dims_.rope_dim, input, stream);
  for (const auto seqs : {input.prefill, input.decode}) {
    if (seqs.empty()) continue;
    kernels::latent_store({.rows = latents,
                           .stride = width,
                           .kv = input.kv[static_cast<size_t>(layer_)],
                           .seqs = seqs},
                          stream);
  }
}

// A head's absorbed query: in the latents' space, then the channels that rotate, as rows lie in the
// cache.
void LatentBlock::absorb(const ForwardInput& input, LayerScratch& scratch, Stream& stream) const {
  const int64_t rows = input.rows.total;
  const int64_t head_dim = dims_.nope_dim + dims_.rope_dim;
  const int64_t q_cols = num_heads_ * head_dim;
  const int64_t cols = int64_t{num_heads_} * dims_.width();
  const float* q = scratch.q.data();
  float* absorbed = scratch.latent.absorbed.reserve(stream.device(), rows, cols);
  for (int64_t head = 0; head < num_heads_; ++head) {
    float* to = absorbed + head * dims_.width();
    std::array<kernels::GemmOutput, 1> keys{
        kernels::GemmOutput{.weight = heads_.to_latent_of(head), .y = to, .y_stride = cols}};
    linear(input.rows, q + head * head_dim, q_cols, dims_.nope_dim, keys, stream);
  }
  stream.pool().run(rows, [&](int64_t row, int) {
    for (int64_t head = 0; head < num_heads_; ++head) {
      std::copy_n(q + row * q_cols + head * head_dim + dims_.nope_dim, dims_.rope_dim,
                  absorbed + row * cols + head * dims_.width() + dims_.kv_rank);
    }
  });
}

void LatentBlock::attend(const attention::IndexInputs* index, const ForwardInput& input,
                         const LayerScratch& scratch, attention::AttentionStep& attention,
                         Stream& stream) const {
  const attention::AttendArgs args{.q = scratch.latent.absorbed.data(),
                                   .k = scratch.k.data(),
                                   .out = scratch.latent.values.data(),
                                   .index = index,
                                   .q_stride = int64_t{num_heads_} * dims_.width(),
                                   .kv_stride = dims_.width(),
                                   .out_stride = int64_t{num_heads_} * dims_.kv_rank,
                                   .num_heads = num_heads_,
                                   .kv = input.kv[static_cast<size_t>(layer_)],
                                   .softmax_scale = softmax_scale_};
  attend_phases(layer_, args, input, attention, stream);
}

void LatentBlock::expand_values(const ForwardInput& input, LayerScratch& scratch,
                                Stream& stream) const {
  const int64_t from_cols = int64_t{num_heads_} * dims_.kv_rank;
  const int64_t to_cols = int64_t{num_heads_} * dims_.value_dim;
  for (int64_t head = 0; head < num_heads_; ++head) {
    std::array<kernels::GemmOutput, 1> values{
        kernels::GemmOutput{.weight = heads_.to_values[static_cast<size_t>(head)],
                            .y = scratch.out.data() + head * dims_.value_dim,
                            .y_stride = to_cols}};
    linear(input.rows, scratch.latent.values.data() + head * dims_.kv_rank, from_cols,
           dims_.kv_rank, values, stream);
  }
}

void LatentBlock::rotate(float* x, int64_t stride, int32_t num_heads, int32_t head_dim,
                         const ForwardInput& input, Stream& stream) const {
  kernels::rope({.x = x,
                 .m = input.rows.total,
                 .x_stride = stride,
                 .num_heads = num_heads,
                 .head_dim = head_dim,
                 .rotary_dim = dims_.rope_dim,
                 .positions = input.positions,
                 .cos_table = rope_->cos(),
                 .sin_table = rope_->sin(),
                 .style = rope_style_},
                stream);
}

}  // namespace foveal::model

#include "model/layers/attention_block.h"

#include <fmt/format.h>

#include <array>
#include <cmath>

#include "kernels/paged_attention.h"

namespace foveal::model {
AttentionBlock::AttentionBlock(const Checkpoint& checkpoint, const ModelConfig& config,
                               const DecoderTraits& traits, int32_t layer, const RopeTable* rope)
    : layer_(layer),
      hidden_(config.hidden_size),
      num_heads_(config.num_heads),
      num_kv_heads_(config.num_kv_heads),
      head_dim_(config.head_dim),
      rotary_dim_(config.rotary_dim),
      window_(config.windows.at(static_cast<size_t>(layer))),
      softmax_scale_(static_cast<float>(config.attention_scale != 0
                                            ? config.attention_scale
                                            : 1.0 / std::sqrt(double{1} * config.head_dim))),
      rope_style_(config.rope_style),
      rope_(rope) {
  const std::string prefix = fmt::format("model.layers.{}.self_attn.", layer);
  const int64_t q_rows = int64_t{num_heads_} * head_dim_;
  const int64_t kv_rows = int64_t{num_kv_heads_} * head_dim_;
  if (traits.fused_qkv) {
    const Linear fused = load_linear(checkpoint, prefix + "qkv_proj", q_rows + 2 * kv_rows, hidden_,
                                     traits.qkv_bias);
    q_ = slice_rows(fused, 0, q_rows);
    k_ = slice_rows(fused, q_rows, kv_rows);
    v_ = slice_rows(fused, q_rows + kv_rows, kv_rows);
  } else {
    q_ = load_linear(checkpoint, prefix + "q_proj", q_rows, hidden_, traits.qkv_bias);
    k_ = load_linear(checkpoint, prefix + "k_proj", kv_rows, hidden_, traits.qkv_bias);
    v_ = load_linear(checkpoint, prefix + "v_proj", kv_rows, hidden_, traits.qkv_bias);
  }
  o_ = load_linear(checkpoint, prefix + "o_proj", hidden_, q_rows, /*need_bias=*/false);
  if (traits.qk_norm) {
    const auto eps = static_cast<float>(config.norm_eps);
    q_norm_ = Norm{checkpoint.vector(prefix + "q_norm.weight", head_dim_), eps, traits.norm_offset};
    k_norm_ = Norm{checkpoint.vector(prefix + "k_norm.weight", head_dim_), eps, traits.norm_offset};
  }
}

void AttentionBlock::run(const float* x, const BlockOutput& output, const ForwardInput& input,
                         LayerScratch& scratch, attention::AttentionStep& attention,
                         Stream& stream) const {
  const int64_t rows = input.rows.total;
  const int64_t q_cols = int64_t{num_heads_} * head_dim_;
  const int64_t kv_cols = int64_t{num_kv_heads_} * head_dim_;
  float* q = scratch.q.reserve(stream.device(), rows, q_cols);
  float* k = scratch.k.reserve(stream.device(), rows, kv_cols);
  float* v = scratch.v.reserve(stream.device(), rows, kv_cols);
  scratch.out.reserve(stream.device(), rows, q_cols);

  std::array<kernels::GemmOutput, 3> qkv{q_.output(q, q_cols), k_.output(k, kv_cols),
                                         v_.output(v, kv_cols)};
  linear(input.rows, x, hidden_, hidden_, qkv, stream);
  if (q_norm_) {
    q_norm_->run(q, head_dim_, q, head_dim_, rows * num_heads_, stream);
    k_norm_->run(k, head_dim_, k, head_dim_, rows * num_kv_heads_, stream);
  }
  rotate(q, num_heads_, input, stream);
  rotate(k, num_kv_heads_, input, stream);
  trace_rows(input, "q", layer_, q, q_cols);
  trace_rows(input, "k", layer_, k, kv_cols);
  trace_rows(input, "v", layer_, v, kv_cols);
  store(input, scratch, stream);
  attend(input, scratch, attention, stream);
  trace_rows(input, "attention", layer_, scratch.out.data(), q_cols);

  std::array<kernels::GemmOutput, 1> projected{o_.output(output.y, hidden_, output.accumulate)};
  linear(input.rows, scratch.out.data(), q_cols, q_cols, projected, stream);
}

void AttentionBlock::rotate(float* x, int32_t num_heads, const ForwardInput& input,
                            Stream& stream) const {
  if (rope_ == nullptr) return;
  kernels::rope({.x = x,
                 .m = input.rows.total,
                 .x_stride = int64_t{num_heads} * head_dim_,
                 .num_heads = num_heads,
                 .head_dim = head_dim_,
                 .rotary_dim = rotary_dim_,
                 .positions = input.positions,
                 .cos_table = rope_->cos(),
                 .sin_table = rope_->sin(),
                 .style = rope_style_},
                stream);
}

void AttentionBlock::store(const ForwardInput& input, const LayerScratch& scratch,
                           Stream& stream) const {
  const int64_t stride = int64_t{num_kv_heads_} * head_dim_;
  for (const auto seqs : {input.prefill, input.decode}) {
    if (seqs.empty()) continue;
    kernels::kv_store({.k = scratch.k.data(),
                       .v = scratch.v.data(),
                       .k_stride = stride,
                       .v_stride = stride,
                       .kv = input.kv[static_cast<size_t>(layer_)],
                       .seqs = seqs},
                      stream);
  }
}

void AttentionBlock::attend(const ForwardInput& input, const LayerScratch& scratch,
                            attention::AttentionStep& attention, Stream& stream) const {
  const attention::AttendArgs args{.q = scratch.q.data(),
                                   .k = scratch.k.data(),
                                   .v = scratch.v.data(),
                                   .out = scratch.out.data(),
                                   .q_stride = int64_t{num_heads_} * head_dim_,
                                   .kv_stride = int64_t{num_kv_heads_} * head_dim_,
                                   .out_stride = int64_t{num_heads_} * head_dim_,
                                   .num_heads = num_heads_,
                                   .kv = input.kv[static_cast<size_t>(layer_)],
                                   .softmax_scale = softmax_scale_,
                                   .window = window_};
  attend_phases(layer_, args, input, attention, stream);
}

}  // namespace foveal::model

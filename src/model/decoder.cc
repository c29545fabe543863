#include "model/decoder.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "base/check.h"
#include "model/cuda/decoder.h"

namespace foveal::model {
namespace {

Norm load_norm(const Checkpoint& checkpoint, const ModelConfig& config, const DecoderTraits& traits,
               const std::string& name) {
  return {checkpoint.vector(name + ".weight", config.hidden_size),
          static_cast<float>(config.norm_eps), traits.norm_offset};
}

}  // namespace

std::unique_ptr<Model> Model::create(const Checkpoint& checkpoint, const ModelLimits& limits,
                                     Stream& stream) {
  const ModelConfig& config = checkpoint.config();
  const DecoderTraits traits = find_architecture(config.architecture).traits(config);
  if (stream.device().kind == DeviceKind::kCuda) {
    return make_cuda_decoder(checkpoint, traits, limits, stream);
  }
  return std::make_unique<Decoder>(checkpoint, traits, limits.max_positions, stream);
}

float* Model::more_logits(const ForwardInput& /*input*/, int64_t /*first*/, int64_t /*count*/,
                          Stream& stream) {
  fail(ErrorKind::kInternal, "logits", "got a call for more rows on {}; need them from forward",
       device_name(stream.device()));
}

Decoder::Decoder(const Checkpoint& checkpoint, const DecoderTraits& traits, int64_t max_positions,
                 Stream& stream)
    : config_(checkpoint.config()), traits_(traits) {
  embedding_ =
      checkpoint.matrix("model.embed_tokens.weight", config_.vocab_size, config_.hidden_size);
  const bool own_output = checkpoint.find("lm_head.weight") != nullptr;
  FOVEAL_CHECK(own_output || config_.tie_embeddings, ErrorKind::kCorruptFile, "model",
               "got no tensor lm_head.weight; need it, or tied embeddings in the config");
  output_ = own_output && !config_.tie_embeddings
                ? checkpoint.matrix("lm_head.weight", config_.vocab_size, config_.hidden_size)
                : embedding_;
  final_norm_ = load_norm(checkpoint, config_, traits_, "model.norm");
  rope_ =
      std::make_unique<RopeTable>(config_.rope, config_.rotary_dim, max_positions, stream.pool());
  if (config_.local_rope) {
    local_rope_ = std::make_unique<RopeTable>(*config_.local_rope, config_.rotary_dim,
                                              max_positions, stream.pool());
  }
  layers_.reserve(static_cast<size_t>(config_.num_layers));
  for (int32_t idx = 0; idx < config_.num_layers; ++idx) {
    layers_.push_back(load_layer(checkpoint, idx));
  }
  check_layer_count(checkpoint);
}

Decoder::Layer Decoder::load_layer(const Checkpoint& checkpoint, int32_t idx) {
  const auto at = static_cast<size_t>(idx);
  const std::string prefix = fmt::format("model.layers.{}.", idx);
  const bool local = config_.windows.at(at) != 0 && local_rope_ != nullptr;
  const RopeTable* rope = local ? local_rope_.get() : rope_.get();
  if (config_.use_rope.at(at) == 0) rope = nullptr;
  Layer layer;
  if (config_.latent) {
    layer.latent = std::make_unique<LatentBlock>(checkpoint, config_, idx, *rope_);
  } else {
    layer.attention = std::make_unique<AttentionBlock>(checkpoint, config_, traits_, idx, rope);
  }
  if (config_.num_experts > 0 && config_.moe_layers.at(at) != 0) {
    layer.moe = std::make_unique<Moe>(checkpoint, config_, prefix + "mlp.");
  } else {
    layer.mlp = std::make_unique<Mlp>(
        Mlp::load(checkpoint, config_, traits_, prefix + "mlp.", config_.intermediate_size));
  }
  const auto norm = [&](const char* name) {
    return load_norm(checkpoint, config_, traits_, prefix + name);
  };
  layer.input_norm = norm("input_layernorm");
  layer.post_attention_norm = norm("post_attention_layernorm");
  if (traits_.sandwich_norms) {
    layer.pre_mlp_norm = norm("pre_feedforward_layernorm");
    layer.post_mlp_norm = norm("post_feedforward_layernorm");
  }
  return layer;
}

float* Decoder::forward(const ForwardInput& input, attention::AttentionStep& attention,
                        Stream& stream) {
  const int64_t rows = input.rows.total;
  const int64_t hidden = config_.hidden_size;
  hidden_.reserve(stream.device(), rows, hidden);
  normed_.reserve(stream.device(), rows, hidden);
  branch_.reserve(stream.device(), rows, hidden);
  kernels::embed({.table = embedding_,
                  .ids = input.token_ids,
                  .y = hidden_.data(),
                  .m = rows,
                  .alpha = static_cast<float>(config_.embedding_multiplier)},
                 stream);
  for (int32_t idx = 0; idx < config_.num_layers; ++idx) {
    run_layer(layers_[static_cast<size_t>(idx)], idx, input, attention, stream);
  }
  return run_logits(input, stream);
}

void Decoder::run_layer(Layer& layer, int32_t idx, const ForwardInput& input,
                        attention::AttentionStep& attention, Stream& stream) {
  const int64_t rows = input.rows.total;
  const int64_t hidden = config_.hidden_size;
  float* h = hidden_.data();
  float* normed = normed_.data();
  // A block adds straight into the residual stream unless something happens to its result first.
  const bool direct = !traits_.sandwich_norms && config_.residual_multiplier == 1.0;
  const BlockOutput output{.y = direct ? h : branch_.data(), .accumulate = direct};

  layer.input_norm.run(h, hidden, normed, hidden, rows, stream);
  if (layer.latent) {
    layer.latent->run(normed, output, input, scratch_, attention, stream);
  } else {
    layer.attention->run(normed, output, input, scratch_, attention, stream);
  }
  if (traits_.sandwich_norms) {
    layer.post_attention_norm.run(output.y, hidden, output.y, hidden, rows, stream);
  }
  if (!direct) add_branch(rows, stream);

  const Norm& before_mlp = traits_.sandwich_norms ? layer.pre_mlp_norm : layer.post_attention_norm;
  before_mlp.run(h, hidden, normed, hidden, rows, stream);
  if (layer.moe) {
    layer.moe->run(input.rows, normed, output, scratch_, stream);
  } else {
    layer.mlp->run(input.rows, normed, output, scratch_, stream);
  }
  if (traits_.sandwich_norms) {
    layer.post_mlp_norm.run(output.y, hidden, output.y, hidden, rows, stream);
  }
  if (!direct) add_branch(rows, stream);

  if (input.trace != nullptr) {
    const std::string name = fmt::format("hidden.{}", idx);
    if (input.trace->wants(name)) input.trace->add(name, h, rows, hidden, hidden);
  }
}

void Decoder::add_branch(int64_t rows, Stream& stream) {
  kernels::add_scaled(branch_.data(), static_cast<float>(config_.residual_multiplier),
                      hidden_.data(), rows * config_.hidden_size, stream);
}

float* Decoder::run_logits(const ForwardInput& input, Stream& stream) {
  const auto count = static_cast<int64_t>(input.logit_rows.size());
  if (count == 0) return nullptr;
  const int64_t hidden = config_.hidden_size;
  const int64_t vocab = config_.vocab_size;
  float* last = last_.reserve(stream.device(), count, hidden);
  float* logits = logits_.reserve(stream.device(), count, vocab);
  for (int64_t idx = 0; idx < count; ++idx) {
    std::copy_n(hidden_.data() + input.logit_rows[static_cast<size_t>(idx)] * hidden, hidden,
                last + idx * hidden);
  }
  final_norm_.run(last, hidden, last, hidden, count, stream);
  const std::array<kernels::GemmOutput, 1> outputs{
      kernels::GemmOutput{.weight = output_, .y = logits, .y_stride = vocab}};
  kernels::gemm({.x = last,
                 .m = count,
                 .k = hidden,
                 .x_stride = hidden,
                 .outputs = outputs,
                 .path = input.rows.exact ? kernels::GemmPath::kExact : kernels::GemmPath::kDecode},
                stream);
  if (config_.logits_divisor != 1.0) {
    kernels::scale(logits, static_cast<float>(1.0 / config_.logits_divisor), count * vocab, stream);
  }
  if (config_.final_logit_softcap != 0) {
    const auto cap = static_cast<float>(config_.final_logit_softcap);
    for (int64_t at = 0; at < count * vocab; ++at) logits[at] = cap * std::tanh(logits[at] / cap);
  }
  return logits;
}

}  // namespace foveal::model

#include "model/cuda/layer.h"

#include <fmt/format.h>

#include <iterator>

#include "model/layers/weights.h"

namespace foveal::model {
namespace {

/// Loads one layer: names are the checkpoint's, fused or not.
class LayerLoader {
 public:
  LayerLoader(const Checkpoint& checkpoint, const DecoderTraits& traits, int32_t layer,
              WeightLoader& loader)
      : checkpoint_(checkpoint),
        config_(checkpoint.config()),
        traits_(traits),
        prefix_(fmt::format("model.layers.{}.", layer)),
        loader_(loader) {}

  void attention(DeviceLayer& out) {
    const int64_t hidden = config_.hidden_size;
    const int64_t q_rows = int64_t{config_.num_heads} * config_.head_dim;
    const int64_t kv_rows = int64_t{config_.num_kv_heads} * config_.head_dim;
    const bool bias = traits_.qkv_bias;
    if (traits_.fused_qkv) {
      out.qkv = linear("self_attn.qkv_proj", q_rows + 2 * kv_rows, hidden, bias);
    } else {
      const Linear parts[] = {stored("self_attn.q_proj", q_rows, hidden, bias),
                              stored("self_attn.k_proj", kv_rows, hidden, bias),
                              stored("self_attn.v_proj", kv_rows, hidden, bias)};
      out.qkv = fused(parts, "self_attn.qkv_proj");
    }
    out.o = linear("self_attn.o_proj", hidden, q_rows, /*need_bias=*/false);
    if (!traits_.qk_norm) return;
    out.q_norm = vector("self_attn.q_norm", config_.head_dim);
    out.k_norm = vector("self_attn.k_norm", config_.head_dim);
  }

  void mlp(DeviceLayer& out) {
    const int64_t hidden = config_.hidden_size;
    const int64_t intermediate = config_.intermediate_size;
    const bool bias = config_.mlp_bias;
    if (traits_.fused_gate_up) {
      out.gate_up = linear("mlp.gate_up_proj", 2 * intermediate, hidden, bias);
    } else {
      const Linear parts[] = {stored("mlp.gate_proj", intermediate, hidden, bias),
                              stored("mlp.up_proj", intermediate, hidden, bias)};
      out.gate_up = fused(parts, "mlp.gate_up_proj");
    }
    out.down = linear("mlp.down_proj", hidden, intermediate, bias);
  }

  DeviceExperts experts() {
    const int64_t hidden = config_.hidden_size;
    const int64_t intermediate = config_.moe_intermediate_size;
    std::vector<WeightView> gate_up;
    std::vector<WeightView> down;
    for (int32_t expert = 0; expert < config_.num_experts; ++expert) {
      const auto part = [&](const char* name, int64_t rows, int64_t cols) {
        return checkpoint_.expert_matrix(prefix_ + "mlp.experts.{}." + name + ".weight", expert,
                                         rows, cols);
      };
      gate_up.push_back(part("gate_proj", intermediate, hidden));
      gate_up.push_back(part("up_proj", intermediate, hidden));
      down.push_back(part("down_proj", hidden, intermediate));
    }
    return {.router = linear("mlp.gate", config_.num_experts, hidden, /*need_bias=*/false),
            .gate_up = loader_.matrix(gate_up, prefix_ + "mlp.experts.gate_up"),
            .down = loader_.matrix(down, prefix_ + "mlp.experts.down")};
  }

  void norms(DeviceLayer& out) {
    out.input_norm = vector("input_layernorm", config_.hidden_size);
    out.post_attention_norm = vector("post_attention_layernorm", config_.hidden_size);
    if (!traits_.sandwich_norms) return;
    out.pre_mlp_norm = vector("pre_feedforward_layernorm", config_.hidden_size);
    out.post_mlp_norm = vector("post_feedforward_layernorm", config_.hidden_size);
  }

 private:
  Linear stored(const char* name, int64_t rows, int64_t cols, bool need_bias) const {
    return load_linear(checkpoint_, prefix_ + name, rows, cols, need_bias);
  }

  DeviceLinear linear(const char* name, int64_t rows, int64_t cols, bool need_bias) {
    const Linear part = stored(name, rows, cols, need_bias);
    return fused(std::span(&part, 1), name);
  }

  // A missing bias among others is zero.
  DeviceLinear fused(std::span<const Linear> parts, const char* name) {
    std::vector<WeightView> views;
    std::vector<float> bias;
    bool any_bias = false;
    for (const Linear& part : parts) {
      views.push_back(part.weight);
      any_bias = any_bias || !part.bias.empty();
      bias.insert(bias.end(), part.bias.begin(), part.bias.end());
      bias.resize(bias.size() + (part.bias.empty() ? static_cast<size_t>(part.weight.rows) : 0));
    }
    DeviceLinear out{.weight = loader_.matrix(views, prefix_ + name + ".weight"), .bias = {}};
    if (any_bias) out.bias = loader_.bias(bias, prefix_ + name + ".bias");
    return out;
  }

  DeviceTensor vector(const char* name, int64_t n) {
    const std::string full = prefix_ + name + ".weight";
    return loader_.vector(checkpoint_.vector(full, n), full);
  }

  const Checkpoint& checkpoint_;
  const ModelConfig& config_;
  const DecoderTraits& traits_;
  std::string prefix_;
  WeightLoader& loader_;
};

}  // namespace

DeviceLayer load_device_layer(const Checkpoint& checkpoint, const DecoderTraits& traits,
                              int32_t layer, WeightLoader& loader) {
  const ModelConfig& config = checkpoint.config();
  LayerLoader source(checkpoint, traits, layer, loader);
  DeviceLayer out;
  source.attention(out);
  if (config.num_experts > 0 && config.moe_layers.at(static_cast<size_t>(layer)) != 0) {
    out.experts = source.experts();
  } else {
    source.mlp(out);
  }
  source.norms(out);
  return out;
}

}  // namespace foveal::model

#include "model/cuda/layer.h"

#include <fmt/format.h>

#include <iterator>

#include "base/check.h"
#include "kernels/cuda/latent_any.h"
#include "model/layers/latent_weights.h"
#include "model/layers/weights.h"

namespace foveal::model {
namespace {

/// Loads one layer: names are the checkpoint's, fused or not.
class LayerLoader {
 public:
  LayerLoader(const Checkpoint& checkpoint, const Fp8OnDevice& fp8, const DecoderTraits& traits,
              int32_t layer, WeightLoader& loader)
      : checkpoint_(checkpoint),
        fp8_(fp8),
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
      const Part parts[] = {stored("self_attn.q_proj", q_rows, hidden, bias),
                            stored("self_attn.k_proj", kv_rows, hidden, bias),
                            stored("self_attn.v_proj", kv_rows, hidden, bias)};
      out.qkv = fused(parts, "self_attn.qkv_proj");
    }
    out.o = linear("self_attn.o_proj", hidden, q_rows, /*need_bias=*/false);
    if (!traits_.qk_norm) return;
    out.q_norm = vector("self_attn.q_norm", config_.head_dim);
    out.k_norm = vector("self_attn.k_norm", config_.head_dim);
  }

  void latent(DeviceLayer& out, int32_t layer) {
    const LatentConfig& dims = *config_.latent;
    kernels::cuda::check_latent_dims({.rank = dims.kv_rank, .rope = dims.rope_dim});
    const bool index = config_.indexer && config_.indexer->full.at(static_cast<size_t>(layer)) != 0;
    if (!index) check_no_indexer(checkpoint_, prefix_ + "self_attn.indexer.");
    out.latent.emplace();
    latent_low(*out.latent, index);
    latent_queries(*out.latent, index);
    out.latent->kv_norm = vector("self_attn.kv_a_layernorm", dims.kv_rank);
    const LatentHeads heads = load_latent_heads(checkpoint_, prefix_ + "self_attn.");
    out.latent->to_latent =
        loader_.matrix(heads.to_latent, prefix_ + "self_attn.kv_b_proj of keys");
    const DeviceTensor values =
        loader_.matrix(heads.to_values, prefix_ + "self_attn.kv_b_proj of values");
    out.latent->heads = loader_.heads(out.latent->to_latent, values, config_.num_heads);
    out.o = linear("self_attn.o_proj", config_.hidden_size,
                   int64_t{config_.num_heads} * dims.value_dim, config_.attention_bias);
    if (!index) return;
    const int64_t width = config_.indexer->head_dim;
    const std::string bias = prefix_ + "self_attn.indexer.k_norm.bias";
    out.latent->index_norm = vector("self_attn.indexer.k_norm", width);
    out.latent->index_bias = loader_.vector(checkpoint_.vector(bias, width), bias);
  }

  void mlp(DeviceLayer& out) {
    const int64_t intermediate = config_.intermediate_size;
    if (traits_.fused_gate_up) {
      out.gate_up =
          linear("mlp.gate_up_proj", 2 * intermediate, config_.hidden_size, config_.mlp_bias);
    } else {
      out.gate_up = gate_up("mlp.", intermediate);
    }
    out.down = linear("mlp.down_proj", config_.hidden_size, intermediate, config_.mlp_bias);
  }

  DeviceExperts experts() {
    const int64_t hidden = config_.hidden_size;
    DeviceExperts out{.router = linear("mlp.gate", config_.num_experts, hidden,
                                       /*need_bias=*/false),
                      .gate_up = {},
                      .down = {},
                      .bias = {},
                      .shared_gate_up = {},
                      .shared_down = {}};
    check_expert_count(checkpoint_, prefix_ + "mlp.experts.");
    load_experts(out);
    if (config_.router.sigmoid) {
      out.bias = loader_.vector(load_router_bias(checkpoint_, prefix_ + "mlp."),
                                prefix_ + "mlp.gate.e_score_correction_bias");
    }
    if (config_.shared_intermediate_size > 0) {
      out.shared_gate_up = gate_up("mlp.shared_experts.", config_.shared_intermediate_size);
      out.shared_down = linear("mlp.shared_experts.down_proj", hidden,
                               config_.shared_intermediate_size, config_.mlp_bias);
    } else {
      check_no_shared_experts(checkpoint_, prefix_ + "mlp.shared_experts.");
    }
    return out;
  }

  void norms(DeviceLayer& out) {
    out.input_norm = vector("input_layernorm", config_.hidden_size);
    out.post_attention_norm = vector("post_attention_layernorm", config_.hidden_size);
    if (!traits_.sandwich_norms) return;
    out.pre_mlp_norm = vector("pre_feedforward_layernorm", config_.hidden_size);
    out.post_mlp_norm = vector("post_feedforward_layernorm", config_.hidden_size);
  }

 private:
  /// Part of a projection, with its bias or without.
  struct Part {
    StoredMatrix matrix;
    std::vector<float> bias;
  };

  void load_experts(DeviceExperts& out) {
    const int64_t hidden = config_.hidden_size;
    const int64_t width = config_.moe_intermediate_size;
    std::vector<StoredMatrix> gate_ups;
    std::vector<StoredMatrix> downs;
    for (int32_t expert = 0; expert < config_.num_experts; ++expert) {
      auto gate = kept_expert("gate_proj", expert, width, hidden);
      auto up = kept_expert("up_proj", expert, width, hidden);
      auto down = kept_expert("down_proj", expert, hidden, width);
      if (!gate || !up || !down) {
        const ExpertWeights one = load_expert(checkpoint_, prefix_ + "mlp.experts.", expert);
        gate = {one.gate, {}};
        up = {one.up, {}};
        down = {one.down, {}};
      }
      gate_ups.push_back(*std::move(gate));
      gate_ups.push_back(*std::move(up));
      downs.push_back(*std::move(down));
    }
    out.gate_up = one_matrix(gate_ups, "mlp.experts.gate_up");
    out.down = one_matrix(downs, "mlp.experts.down");
  }

  std::optional<StoredMatrix> kept_expert(const char* name, int32_t expert, int64_t rows,
                                          int64_t cols) const {
    const std::string folder = prefix_ + "mlp.experts.";
    const std::string stacked = folder + "{}." + name + ".weight";
    if (checkpoint_.find(stacked) != nullptr) return kept(stacked, rows, cols);
    return kept(fmt::format("{}{}.{}.weight", folder, expert, name), rows, cols);
  }

  /// The matrix in e4m3 where the device keeps it so.
  std::optional<StoredMatrix> kept(const std::string& name, int64_t rows, int64_t cols) const {
    std::optional<StoredMatrix> out = fp8_.stored(name);
    FOVEAL_CHECK(!out || (out->weight.rows == rows && out->weight.cols == cols),
                 ErrorKind::kCorruptFile, name, "got [{}, {}]; need [{}, {}]", out->weight.rows,
                 out->weight.cols, rows, cols);
    return out;
  }

  DeviceTensor one_matrix(std::span<const StoredMatrix> parts, const std::string& name) {
    std::vector<DeviceTensor> out = loader_.linear(parts, prefix_ + name);
    FOVEAL_CHECK(out.size() == 1, ErrorKind::kUnsupported, prefix_ + name,
                 "got experts in f8_e4m3 with scales of different kinds; need one kind");
    return std::move(out.front());
  }

  /// Everything that reads the hidden row, in one product where it is all of one type. Blocks of
  /// scales are whole in all parts but the latents, which therefore come last of those.
  void latent_low(DeviceLatent& out, bool index) {
    const LatentConfig& dims = *config_.latent;
    const int64_t hidden = config_.hidden_size;
    const bool bias = config_.attention_bias;
    std::vector<Part> parts;
    if (dims.q_rank > 0) {
      parts.push_back(stored("self_attn.q_a_proj", dims.q_rank, hidden, bias));
    }
    if (index) {
      parts.push_back(
          stored("self_attn.indexer.wk", config_.indexer->head_dim, hidden, /*need_bias=*/false));
    }
    parts.push_back(stored("self_attn.kv_a_proj_with_mqa", dims.width(), hidden, bias));
    if (index) {
      parts.push_back(stored("self_attn.indexer.weights_proj", config_.indexer->num_heads, hidden,
                             /*need_bias=*/false));
    }
    out.low = fused(parts, "self_attn.a_proj");
  }

  void latent_queries(DeviceLatent& out, bool index) {
    const LatentConfig& dims = *config_.latent;
    const int64_t rows = int64_t{config_.num_heads} * (dims.nope_dim + dims.rope_dim);
    if (dims.q_rank == 0) {
      out.q = linear("self_attn.q_proj", rows, config_.hidden_size, /*need_bias=*/false);
      return;
    }
    out.q_norm = vector("self_attn.q_a_layernorm", dims.q_rank);
    std::vector<Part> parts{stored("self_attn.q_b_proj", rows, dims.q_rank, false)};
    if (index) {
      const IndexerConfig& indexer = *config_.indexer;
      parts.push_back(stored("self_attn.indexer.wq_b",
                             int64_t{indexer.num_heads} * indexer.head_dim, dims.q_rank, false));
    }
    out.q = fused(parts, "self_attn.b_proj");
  }

  DeviceLinear gate_up(const std::string& mlp, int64_t intermediate) {
    const int64_t hidden = config_.hidden_size;
    const Part parts[] = {stored(mlp + "gate_proj", intermediate, hidden, config_.mlp_bias),
                          stored(mlp + "up_proj", intermediate, hidden, config_.mlp_bias)};
    return fused(parts, mlp + "gate_up_proj");
  }

  Part stored(const std::string& name, int64_t rows, int64_t cols, bool need_bias) const {
    const std::string full = prefix_ + name;
    if (std::optional<StoredMatrix> fp8 = kept(full + ".weight", rows, cols)) {
      return {*std::move(fp8), load_bias(checkpoint_, full, rows, need_bias)};
    }
    Linear wide = load_linear(checkpoint_, full, rows, cols, need_bias);
    return {{wide.weight, {}}, std::move(wide.bias)};
  }

  DeviceLinear linear(const std::string& name, int64_t rows, int64_t cols, bool need_bias) {
    const Part part = stored(name, rows, cols, need_bias);
    return fused(std::span(&part, 1), name);
  }

  // A missing bias among others is zero.
  DeviceLinear fused(std::span<const Part> parts, const std::string& name) {
    std::vector<StoredMatrix> matrices;
    std::vector<float> bias;
    bool any_bias = false;
    for (const Part& part : parts) {
      const auto rows = static_cast<size_t>(part.matrix.weight.rows);
      matrices.push_back(part.matrix);
      any_bias = any_bias || !part.bias.empty();
      bias.insert(bias.end(), part.bias.begin(), part.bias.end());
      bias.resize(bias.size() + (part.bias.empty() ? rows : 0));
    }
    DeviceLinear out{.parts = loader_.linear(matrices, prefix_ + name + ".weight"), .bias = {}};
    if (any_bias) out.bias = loader_.bias(bias, prefix_ + name + ".bias");
    return out;
  }

  DeviceTensor vector(const std::string& name, int64_t n) {
    const std::string full = prefix_ + name + ".weight";
    return loader_.vector(checkpoint_.vector(full, n), full);
  }

  const Checkpoint& checkpoint_;
  const Fp8OnDevice& fp8_;
  const ModelConfig& config_;
  const DecoderTraits& traits_;
  std::string prefix_;
  WeightLoader& loader_;
};

}  // namespace

DeviceLayer load_device_layer(const Checkpoint& checkpoint, const Fp8OnDevice& fp8,
                              const DecoderTraits& traits, int32_t layer, WeightLoader& loader) {
  const ModelConfig& config = checkpoint.config();
  LayerLoader source(checkpoint, fp8, traits, layer, loader);
  DeviceLayer out;
  if (config.latent) {
    source.latent(out, layer);
  } else {
    source.attention(out);
  }
  if (config.num_experts > 0 && config.moe_layers.at(static_cast<size_t>(layer)) != 0) {
    out.experts = source.experts();
  } else {
    source.mlp(out);
  }
  source.norms(out);
  return out;
}

}  // namespace foveal::model

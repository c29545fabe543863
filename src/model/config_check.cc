#include "model/config_check.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/check.h"

namespace foveal::model {
namespace {

/// Known, and not built in: GGUF files of latent attention.
constexpr std::string_view kGgufLatent = "deepseek2";

void check_range(std::string_view field, int64_t value, int64_t least, int64_t most,
                 const std::string& source) {
  FOVEAL_CHECK(value >= least && value <= most, ErrorKind::kCorruptFile, source,
               "got {} {}; need {} to {}", field, value, least, most);
}

void check_positive(std::string_view field, double value, const std::string& source) {
  FOVEAL_CHECK(std::isfinite(value) && value > 0, ErrorKind::kCorruptFile, source,
               "got {} {}; need a positive number", field, value);
}

void check_sizes(const ModelConfig& config, const std::string& source) {
  check_range("hidden_size", config.hidden_size, 1, ConfigLimits::kHidden, source);
  check_range("num_hidden_layers", config.num_layers, 1, ConfigLimits::kLayers, source);
  check_range("num_attention_heads", config.num_heads, 1, ConfigLimits::kHeads, source);
  check_range("num_key_value_heads", config.num_kv_heads, 1, config.num_heads, source);
  check_range("head_dim", config.head_dim, 2, ConfigLimits::kHeadDim, source);
  check_range("vocab_size", config.vocab_size, 1, ConfigLimits::kVocab, source);
  check_range("max_position_embeddings", config.max_positions, 1, ConfigLimits::kPositions, source);
  check_range("intermediate_size", config.intermediate_size, 0, ConfigLimits::kIntermediate,
              source);
  FOVEAL_CHECK(config.num_heads % config.num_kv_heads == 0, ErrorKind::kCorruptFile, source,
               "got {} num_attention_heads and {} num_key_value_heads; need a whole ratio",
               config.num_heads, config.num_kv_heads);
  FOVEAL_CHECK(config.head_dim % 2 == 0, ErrorKind::kUnsupported, source,
               "got head_dim {}; need an even number", config.head_dim);
  FOVEAL_CHECK(
      config.rotary_dim >= 2 && config.rotary_dim <= config.head_dim && config.rotary_dim % 2 == 0,
      ErrorKind::kUnsupported, source,
      "got {} rotating channels (partial_rotary_factor, rope.dimension_count); need an "
      "even number from 2 to head_dim {}",
      config.rotary_dim, config.head_dim);
}

void check_experts(const ModelConfig& config, const std::string& source) {
  const auto layers = static_cast<size_t>(config.num_layers);
  FOVEAL_CHECK(config.moe_layers.size() == layers, ErrorKind::kCorruptFile, source,
               "got {} entries in moe_layers; need {}", config.moe_layers.size(), layers);
  const bool any_dense =
      std::any_of(config.moe_layers.begin(), config.moe_layers.end(), [](auto x) { return !x; });
  FOVEAL_CHECK(!any_dense || config.intermediate_size > 0, ErrorKind::kCorruptFile, source,
               "got no intermediate_size; need it for the dense layers");
  if (config.num_experts == 0) return;
  check_range("num_experts", config.num_experts, 1, ConfigLimits::kExperts, source);
  check_range("num_experts_per_tok", config.experts_per_token, 1, config.num_experts, source);
  check_range("moe_intermediate_size", config.moe_intermediate_size, 1, ConfigLimits::kIntermediate,
              source);
}

void check_tokens(const ModelConfig& config, const std::string& source) {
  if (config.bos_token) check_range("bos_token_id", *config.bos_token, 0, INT32_MAX, source);
  for (const int32_t token : config.eos_tokens) {
    check_range("eos_token_id", token, 0, INT32_MAX, source);
  }
}

}  // namespace

void refuse_architecture(std::string_view architecture, const std::string& source) {
  if (architecture == kGgufLatent) {
    fail(
        ErrorKind::kUnsupported, source,
        "got architecture '{}', which is known but not available in this build yet; need one of {}",
        architecture, known_architectures());
  }
  fail(ErrorKind::kUnsupported, source, "got architecture '{}'; need one of {}", architecture,
       known_architectures());
}

void check_config(const ModelConfig& config, const std::string& source) {
  check_sizes(config, source);
  check_experts(config, source);
  check_tokens(config, source);
  const auto layers = static_cast<size_t>(config.num_layers);
  FOVEAL_CHECK(config.windows.size() == layers && config.use_rope.size() == layers,
               ErrorKind::kCorruptFile, source, "got {} windows, {} rope flags; need {} of each",
               config.windows.size(), config.use_rope.size(), layers);
  for (const int32_t window : config.windows) {
    check_range("sliding_window", window, 0, INT32_MAX, source);
  }
  check_positive("rms_norm_eps", config.norm_eps, source);
  check_positive("rope_theta", config.rope.theta, source);
  check_positive("rope factor", config.rope.factor, source);
  check_positive("embedding_multiplier", config.embedding_multiplier, source);
  check_positive("residual_multiplier", config.residual_multiplier, source);
  check_positive("logits_scaling", config.logits_divisor, source);
  FOVEAL_CHECK(std::isfinite(config.attention_scale) && config.attention_scale >= 0,
               ErrorKind::kCorruptFile, source,
               "got attention scale {}; need a positive number, or 0 for head_dim^-1/2",
               config.attention_scale);
  FOVEAL_CHECK(config.rope.freq_factors.empty() ||
                   config.rope.freq_factors.size() == static_cast<size_t>(config.rotary_dim / 2),
               ErrorKind::kCorruptFile, source, "got {} rope frequency factors; need {}",
               config.rope.freq_factors.size(), config.rotary_dim / 2);
}

}  // namespace foveal::model

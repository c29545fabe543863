#include "model/config_check.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/check.h"

namespace foveal::model {
namespace {

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

// Fields are named as config.json has them; GGUF's keys are close enough to be found by them.
void check_latent(const ModelConfig& config, const std::string& source) {
  const LatentConfig& latent = *config.latent;
  FOVEAL_CHECK(latent.rope_dim % 2 == 0 && latent.kv_rank % 2 == 0, ErrorKind::kUnsupported, source,
               "got qk_rope_head_dim {} and kv_lora_rank {}; need even numbers", latent.rope_dim,
               latent.kv_rank);
  if (!config.indexer) return;
  FOVEAL_CHECK(latent.q_rank > 0, ErrorKind::kUnsupported, source,
               "got an indexer and no q_lora_rank; need the latent that its queries come from");
  FOVEAL_CHECK(config.indexer->head_dim >= latent.rope_dim, ErrorKind::kCorruptFile, source,
               "got index_head_dim {}; need at least qk_rope_head_dim {}", config.indexer->head_dim,
               latent.rope_dim);
  FOVEAL_CHECK(config.indexer->full.front() == 1, ErrorKind::kCorruptFile, source,
               "got indexer_types with shared at layer 0; need full there, for there is no layer "
               "before it");
}

void check_router(const ModelConfig& config, const std::string& source) {
  const RouterConfig& router = config.router;
  const int32_t group = config.num_experts / router.num_groups;
  FOVEAL_CHECK(group * router.num_groups == config.num_experts, ErrorKind::kCorruptFile, source,
               "got n_group {}; need one that divides n_routed_experts {}", router.num_groups,
               config.num_experts);
  FOVEAL_CHECK(router.topk_groups <= router.num_groups, ErrorKind::kCorruptFile, source,
               "got topk_group {}; need at most n_group {}", router.topk_groups, router.num_groups);
  FOVEAL_CHECK(router.num_groups == 1 || group >= 2, ErrorKind::kCorruptFile, source,
               "got n_group {} of {} experts; need two experts or more in each", router.num_groups,
               group);
  FOVEAL_CHECK(config.experts_per_token <= router.topk_groups * group, ErrorKind::kCorruptFile,
               source, "got num_experts_per_tok {}; need at most the {} experts of topk_group {}",
               config.experts_per_token, router.topk_groups * group, router.topk_groups);
}

void check_tokens(const ModelConfig& config, const std::string& source) {
  if (config.bos_token) check_range("bos_token_id", *config.bos_token, 0, INT32_MAX, source);
  for (const int32_t token : config.eos_tokens) {
    check_range("eos_token_id", token, 0, INT32_MAX, source);
  }
}

}  // namespace

void refuse_architecture(std::string_view architecture, const std::string& source) {
  fail(ErrorKind::kUnsupported, source, "got architecture '{}'; need one of {}", architecture,
       known_architectures());
}

int32_t shared_experts_width(const ModelConfig& config, int32_t count, const std::string& source) {
  const int64_t width = int64_t{config.moe_intermediate_size} * count;
  FOVEAL_CHECK(width <= ConfigLimits::kIntermediate, ErrorKind::kCorruptFile, source,
               "got shared experts {} wide; need at most {}", width, ConfigLimits::kIntermediate);
  return static_cast<int32_t>(width);
}

void check_config(const ModelConfig& config, const std::string& source) {
  if (config.latent) check_latent(config, source);
  check_sizes(config, source);
  check_experts(config, source);
  if (config.router.sigmoid) check_router(config, source);
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
  FOVEAL_CHECK(config.rope.beta_fast >= config.rope.beta_slow, ErrorKind::kCorruptFile, source,
               "got yarn's beta_fast {} and beta_slow {}; need the first at least the second",
               config.rope.beta_fast, config.rope.beta_slow);
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

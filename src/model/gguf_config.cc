#include "model/gguf_config.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "base/check.h"
#include "model/config_check.h"
#include "model/gguf_fields.h"
#include "model/gguf_latent.h"

namespace foveal::model {
namespace {

using Scaling = RopeConfig::Scaling;
using kernels::RopeStyle;

constexpr double kMaxTheta = 1e12;
constexpr double kMaxFactor = 1e6;

struct GgufFamily {
  std::string_view gguf;  ///< general.architecture
  std::string_view ours;
  RopeStyle rope;       ///< kInterleaved where the converter permutes the rows of q and k
  bool latent = false;  ///< see gguf_latent.h
};

constexpr std::array<GgufFamily, 11> kFamilies{{
    {"llama", "llama", RopeStyle::kInterleaved},  // Mistral too: same layers
    {"qwen2", "qwen2", RopeStyle::kHalf},
    {"qwen3", "qwen3", RopeStyle::kHalf},
    {"qwen3moe", "qwen3_moe", RopeStyle::kHalf},
    {"gemma3", "gemma3", RopeStyle::kHalf},
    {"smollm3", "smollm3", RopeStyle::kInterleaved},
    {"phi3", "phi3", RopeStyle::kHalf},
    {"granite", "granite", RopeStyle::kInterleaved},
    // These rotate neighbours as they were trained: nothing is permuted.
    {"deepseek2", "deepseek_v3", RopeStyle::kInterleaved, true},
    {"deepseek32", "deepseek_v32", RopeStyle::kInterleaved, true},
    {"glm-dsa", "glm_moe_dsa", RopeStyle::kInterleaved, true},
}};

/// A vector of `count` float32 values; empty when there is no such tensor.
std::vector<float> float_tensor(const GgufFile& file, std::string_view name, int32_t count,
                                const std::string& source) {
  const GgufTensor* tensor = find_tensor(file, name);
  if (tensor == nullptr) return {};
  FOVEAL_CHECK(tensor->view.dtype == DType::kF32 && tensor->view.num_elements() == count,
               ErrorKind::kCorruptFile, source, "got '{}' as {} [{}]; need f32 [{}]", name,
               dtype_name(tensor->view.dtype), fmt::join(tensor->view.shape, ", "), count);
  std::vector<float> out(static_cast<size_t>(count));
  std::memcpy(out.data(), tensor->view.data, out.size() * sizeof(float));
  FOVEAL_CHECK(
      std::all_of(out.begin(), out.end(), [](float x) { return std::isfinite(x) && x > 0; }),
      ErrorKind::kCorruptFile, source, "got values in '{}'; need them positive", name);
  return out;
}

void read_heads(ModelConfig& config, const GgufFields& fields) {
  using Limits = ConfigLimits;
  config.num_kv_heads =
      fields.integer_or("attention.head_count_kv", 1, Limits::kHeads, config.num_heads);
  config.head_dim = fields.integer_or("attention.key_length", 1, Limits::kHeadDim,
                                      config.hidden_size / config.num_heads);
  const auto value_dim = fields.integer("attention.value_length", 1, Limits::kHeadDim);
  FOVEAL_CHECK(value_dim.value_or(config.head_dim) == config.head_dim, ErrorKind::kUnsupported,
               fields.source(), "got key_length {} and value_length {}; need them equal",
               config.head_dim, *value_dim);
}

void read_sizes(ModelConfig& config, bool latent, const GgufFile& file, const GgufFields& fields) {
  using Limits = ConfigLimits;
  config.hidden_size = fields.size("embedding_length", Limits::kHidden);
  config.num_layers = fields.size("block_count", Limits::kLayers);
  config.num_heads = fields.size("attention.head_count", Limits::kHeads);
  if (latent) {
    read_gguf_latent(config, file, fields);
  } else {
    read_heads(config, fields);
  }
  config.intermediate_size = static_cast<int32_t>(
      fields.integer("feed_forward_length", 0, Limits::kIntermediate).value_or(0));
  config.max_positions = fields.size("context_length", Limits::kPositions);
  config.rotary_dim = static_cast<int32_t>(
      fields.integer("rope.dimension_count", 1, Limits::kHeadDim).value_or(config.head_dim));
  config.norm_eps = fields.number("attention.layer_norm_rms_epsilon", 1e-30, 1).value_or(1e-5);
  // The table itself is the best witness of the vocabulary: some files have a stale vocab_size.
  const GgufTensor* table = find_tensor(file, "token_embd.weight");
  FOVEAL_CHECK(
      table != nullptr && table->view.shape.size() == 2 && table->view.shape[0] <= Limits::kVocab,
      ErrorKind::kCorruptFile, fields.source(),
      "got no matrix token_embd.weight with at most {} rows; need it", Limits::kVocab);
  config.vocab_size = static_cast<int32_t>(table->view.shape[0]);
  config.tie_embeddings = find_tensor(file, "output.weight") == nullptr;
  config.attention_bias = find_tensor(file, "blk.0.attn_q.bias") != nullptr ||
                          find_tensor(file, "blk.0.attn_qkv.bias") != nullptr;
  config.mlp_bias = find_tensor(file, "blk.0.ffn_down.bias") != nullptr;
}

Scaling scaling_type(const GgufFields& fields) {
  const std::string_view name = fields.text("rope.scaling.type").value_or("");
  // Older files give a factor and no type, meaning linear.
  const bool factor = fields.find("rope.scaling.factor") || fields.find("rope.scale_linear");
  if (name == "linear" || (name.empty() && factor)) return Scaling::kLinear;
  if (name.empty() || name == "none") return Scaling::kNone;
  if (name == "yarn") return Scaling::kYarn;
  if (name == "longrope") return Scaling::kLongRope;
  fail(ErrorKind::kUnsupported, fields.source(),
       "got rope.scaling.type '{}'; need none, linear, yarn or longrope", name);
}

void read_rope(ModelConfig& config, const GgufFile& file, const GgufFields& fields) {
  const std::string& source = fields.source();
  RopeConfig& rope = config.rope;
  const int32_t half = config.rotary_dim / 2;
  rope.theta = fields.number("rope.freq_base", 1, kMaxTheta).value_or(1e4);
  rope.original_max_positions =
      fields.integer("rope.scaling.original_context_length", 1, ConfigLimits::kPositions)
          .value_or(config.max_positions);
  rope.scaling = scaling_type(fields);
  rope.freq_factors = float_tensor(file, "rope_freqs.weight", half, source);
  const auto long_factor = float_tensor(file, "rope_factors_long.weight", half, source);
  const auto short_factor = float_tensor(file, "rope_factors_short.weight", half, source);
  if (!long_factor.empty() && !short_factor.empty()) {
    rope.scaling = Scaling::kLongRope;
    rope.long_factor.assign(long_factor.begin(), long_factor.end());
    rope.short_factor.assign(short_factor.begin(), short_factor.end());
  }
  // Of latent attention see scale_gguf_latent.
  const double attention =
      config.latent ? 0 : fields.number("rope.scaling.attn_factor", 1e-6, kMaxFactor).value_or(0);
  const auto factor = fields.number("rope.scaling.factor", 0, kMaxFactor);
  const auto old_factor = fields.number("rope.scale_linear", 0, kMaxFactor);
  const double stretch = factor.value_or(old_factor.value_or(0));
  if (rope.scaling == Scaling::kLongRope) {
    FOVEAL_CHECK(!rope.long_factor.empty(), ErrorKind::kCorruptFile, source,
                 "got longrope without rope_factors_long and _short; need both");
    rope.factor = static_cast<double>(config.max_positions) /
                  static_cast<double>(rope.original_max_positions);
    rope.attention_factor = attention;
  } else if (rope.scaling != Scaling::kNone) {
    rope.factor = stretch == 0 ? 1 : stretch;  // 0 is how some converters write "none"
    if (rope.factor == 1) rope.scaling = Scaling::kNone;
  }
  if (rope.scaling == Scaling::kYarn) {
    rope.beta_fast = fields.number("rope.scaling.yarn_beta_fast", 1e-6, kMaxFactor).value_or(32);
    rope.beta_slow = fields.number("rope.scaling.yarn_beta_slow", 1e-6, kMaxFactor).value_or(1);
    // attn_factor multiplies what yarn derives from its factor.
    if (attention != 0) rope.attention_factor = attention * (1 + 0.1 * std::log(rope.factor));
  }
}

void read_experts(ModelConfig& config, const GgufFields& fields) {
  const auto experts = fields.integer("expert_count", 0, ConfigLimits::kExperts).value_or(0);
  const auto layers = static_cast<size_t>(config.num_layers);
  config.moe_layers.assign(layers, experts > 0 ? 1 : 0);
  FOVEAL_CHECK(experts == 0 || config.architecture == "qwen3_moe", ErrorKind::kUnsupported,
               fields.source(), "got {} experts in a {} model; need a dense one", experts,
               config.architecture);
  if (config.architecture != "qwen3_moe") return;
  config.num_experts = fields.size("expert_count", ConfigLimits::kExperts);
  config.experts_per_token = fields.size("expert_used_count", ConfigLimits::kExperts);
  config.moe_intermediate_size =
      fields.size("expert_feed_forward_length", ConfigLimits::kIntermediate);
  config.norm_topk_prob = fields.boolean("expert_weights_norm").value_or(true);
}

/// Every how many layers one is different (the last of each group); 0: none.
int64_t layer_period(std::string_view architecture, const GgufFields& fields) {
  if (architecture != "gemma3") return 0;
  const GgufValue* value = fields.find("attention.sliding_window_pattern");
  if (value == nullptr || value->type == GgufType::kArray) return 6;
  return fields.integer("attention.sliding_window_pattern", 1, INT32_MAX).value_or(6);
}

void read_layers(ModelConfig& config, const GgufFields& fields) {
  const auto layers = static_cast<size_t>(config.num_layers);
  config.use_rope.assign(layers, 1);
  config.windows.assign(layers, 0);
  if (config.architecture == "smollm3") {  // no key for it: every fourth layer, as released
    for (size_t layer = 0; layer < layers; ++layer) config.use_rope[layer] = (layer + 1) % 4 != 0;
    return;
  }
  const auto window = fields.integer("attention.sliding_window", 0, INT32_MAX).value_or(0);
  // Gemma's sliding layers have their own rotation: its windows stay, however wide.
  const bool idle = window >= config.max_positions && config.architecture != "gemma3";
  if (window == 0 || idle) return;
  const int64_t period = layer_period(config.architecture, fields);
  for (size_t layer = 0; layer < layers; ++layer) {
    const bool full = period > 0 && (static_cast<int64_t>(layer) + 1) % period == 0;
    if (!full) config.windows[layer] = static_cast<int32_t>(window);
  }
  const GgufValue* flags = fields.find("attention.sliding_window_pattern");
  if (flags == nullptr || flags->type != GgufType::kArray) return;
  const auto slides = flags->as_ints();
  FOVEAL_CHECK(slides && slides->size() == layers, ErrorKind::kCorruptFile, fields.source(),
               "got {} entries in attention.sliding_window_pattern; need {}", flags->count, layers);
  for (size_t layer = 0; layer < layers; ++layer) {
    config.windows[layer] = (*slides)[layer] != 0 ? static_cast<int32_t>(window) : 0;
  }
}

void read_scales(ModelConfig& config, const GgufFields& fields) {
  constexpr double kLeast = 1e-9;
  constexpr double kMost = 1e9;
  if (config.architecture == "gemma3") {
    config.activation = kernels::Activation::kGeluTanh;
    config.embedding_multiplier = std::sqrt(static_cast<double>(config.hidden_size));
    // The files have no query_pre_attn_scalar: it is head_dim, but for the 27B (62 layers), where
    // it is hidden / heads.
    config.attention_scale =
        config.num_layers == 62
            ? std::sqrt(static_cast<double>(config.num_heads) / config.hidden_size)
            : 1 / std::sqrt(static_cast<double>(config.head_dim));
    config.local_rope.emplace();
    config.local_rope->theta = fields.number("rope.freq_base_swa", 1, kMaxTheta).value_or(1e4);
    config.local_rope->original_max_positions = config.max_positions;
    config.final_logit_softcap = fields.number("final_logit_softcapping", 0, kMost).value_or(0);
  }
  if (config.architecture == "granite") {
    config.embedding_multiplier = fields.number("embedding_scale", kLeast, kMost).value_or(1);
    config.residual_multiplier = fields.number("residual_scale", kLeast, kMost).value_or(1);
    config.attention_scale = fields.number("attention.scale", 0, kMost).value_or(0);
    config.logits_divisor = fields.number("logit_scale", kLeast, kMost).value_or(1);
  }
}

void read_tokens(ModelConfig& config, const GgufFile& file, const std::string& source) {
  const GgufFields fields(file, "tokenizer.ggml.", source);
  const auto bos = fields.integer("bos_token_id", 0, INT32_MAX);
  if (bos) config.bos_token = static_cast<int32_t>(*bos);
  for (const std::string_view key : {"eos_token_id", "eot_token_id"}) {
    const auto id = fields.integer(key, 0, INT32_MAX);
    if (!id) continue;
    const auto token = static_cast<int32_t>(*id);
    auto& known = config.eos_tokens;
    if (std::find(known.begin(), known.end(), token) == known.end()) known.push_back(token);
  }
}

}  // namespace

ModelConfig read_gguf_config(const GgufFile& file, const std::string& source) {
  const GgufFields general(file, "general.", source);
  const auto architecture = general.text("architecture");
  FOVEAL_CHECK(architecture, ErrorKind::kCorruptFile, source,
               "got no general.architecture; need it");
  const auto* family =
      std::find_if(kFamilies.begin(), kFamilies.end(),
                   [&](const GgufFamily& known) { return known.gguf == *architecture; });
  if (family == kFamilies.end()) refuse_architecture(*architecture, source);
  const GgufFields fields(file, std::string(*architecture) + ".", source);
  ModelConfig config;
  config.architecture = family->ours;
  config.from_gguf = true;
  config.rope_style = family->rope;
  config.name = general.text("name").value_or("");
  read_sizes(config, family->latent, file, fields);
  read_rope(config, file, fields);
  if (family->latent) {
    scale_gguf_latent(config, fields);
    read_gguf_latent_experts(config, fields);
  } else {
    read_experts(config, fields);
  }
  read_layers(config, fields);
  read_scales(config, fields);
  read_tokens(config, file, source);
  check_config(config, source);
  return config;
}

}  // namespace foveal::model

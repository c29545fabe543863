#include "model/config_json.h"

#include <algorithm>
#include <array>
#include <boost/json/serialize.hpp>
#include <cmath>

#include "base/check.h"
#include "model/config_check.h"
#include "model/json_text.h"

namespace foveal::model {
namespace {

constexpr std::array<FamilyDefaults, 12> kFamilies{{
    {"llama", false, 0, 0, 2048, 1e4, 1e-6},
    {"mistral", false, 0, 8, 131072, 1e4, 1e-6},
    {"qwen2", false, 0, 32, 32768, 1e4, 1e-6},
    {"qwen3", false, 128, 32, 32768, 1e4, 1e-6},
    {"qwen3_moe", false, 0, 4, 32768, 1e4, 1e-6},
    {"gemma3", true, 256, 4, 131072, 1e6, 1e-6},
    {"smollm3", true, 0, 4, 32768, 2e6, 1e-6},
    {"phi3", false, 0, 0, 4096, 1e4, 1e-5},
    {"granite", false, 0, 0, 2048, 1e4, 1e-6},
    {"deepseek_v3", false, 0, 0, 4096, 1e4, 1e-6, true},
    {"deepseek_v32", false, 0, 0, 163840, 1e4, 1e-6, true, 64},
    {"glm_moe_dsa", false, 0, 0, 202752, 1e4, 1e-5, true, 32},
}};

}  // namespace

std::string known_architectures() {
  std::string names;
  for (const FamilyDefaults& family : kFamilies) {
    if (!names.empty()) names += ", ";
    names += family.architecture;
  }
  return names;
}

namespace {

const FamilyDefaults& family_of(const JsonFields& fields) {
  const auto type = fields.text("model_type");
  FOVEAL_CHECK(type, ErrorKind::kCorruptFile, fields.source(), "got no model_type; need it");
  const std::string_view name = *type == "gemma3_text" ? std::string_view("gemma3") : *type;
  for (const FamilyDefaults& family : kFamilies) {
    if (family.architecture == name) return family;
  }
  refuse_architecture(*type, fields.source());
}

kernels::Activation read_activation(const JsonFields& fields) {
  std::string name = "silu";
  for (const std::string_view field : {"hidden_act", "hidden_activation"}) {
    if (const auto text = fields.text(field)) name = *text;
  }
  if (name == "silu" || name == "swish") return kernels::Activation::kSilu;
  if (name == "gelu_pytorch_tanh" || name == "gelu_new") return kernels::Activation::kGeluTanh;
  if (name == "gelu") return kernels::Activation::kGeluErf;
  fail(ErrorKind::kUnsupported, fields.source(),
       "got hidden_act '{}'; need silu, gelu or gelu_pytorch_tanh", name);
}

void read_sizes(ModelConfig& config, const JsonFields& fields, const FamilyDefaults& family) {
  using Limits = ConfigLimits;
  const bool gemma = family.architecture == "gemma3";
  config.hidden_size = fields.size("hidden_size", Limits::kHidden);
  config.intermediate_size = fields.size("intermediate_size", Limits::kIntermediate);
  config.num_layers = fields.size("num_hidden_layers", Limits::kLayers);
  // The text part of a multimodal Gemma leaves out what equals the class's defaults.
  const auto heads = fields.integer("num_attention_heads", 1, Limits::kHeads);
  config.num_heads = gemma && !heads ? 8
                     : heads         ? static_cast<int32_t>(*heads)
                                     : fields.size("num_attention_heads", Limits::kHeads);
  const auto vocab = fields.integer("vocab_size", 1, Limits::kVocab);
  config.vocab_size = gemma && !vocab ? 262208
                      : vocab         ? static_cast<int32_t>(*vocab)
                                      : fields.size("vocab_size", Limits::kVocab);
  const int32_t kv_default = family.num_kv_heads != 0 && !fields.has("num_key_value_heads")
                                 ? family.num_kv_heads
                                 : config.num_heads;
  config.num_kv_heads = static_cast<int32_t>(
      fields.integer("num_key_value_heads", 1, Limits::kHeads).value_or(kv_default));
  const int32_t head_default = family.head_dim != 0 && !fields.has("head_dim")
                                   ? family.head_dim
                                   : config.hidden_size / config.num_heads;
  config.head_dim =
      static_cast<int32_t>(fields.integer("head_dim", 1, Limits::kHeadDim).value_or(head_default));
  config.max_positions = fields.integer("max_position_embeddings", 1, Limits::kPositions)
                             .value_or(family.max_positions);
}

void read_experts(ModelConfig& config, const JsonFields& fields) {
  if (config.architecture != "qwen3_moe") return;
  const bool other_name = !fields.has("num_experts") && fields.has("num_local_experts");
  config.num_experts =
      fields.size(other_name ? "num_local_experts" : "num_experts", ConfigLimits::kExperts);
  config.experts_per_token = fields.size("num_experts_per_tok", ConfigLimits::kExperts);
  config.moe_intermediate_size = fields.size("moe_intermediate_size", ConfigLimits::kIntermediate);
  config.norm_topk_prob = fields.boolean("norm_topk_prob").value_or(false);
}

void read_scales(ModelConfig& config, const JsonFields& fields) {
  if (config.architecture == "gemma3") {
    // transformers rounds this factor to the weights' compute type: not at all in float32, and to
    // 8 bits in a bfloat16 run. It is kept exact here.
    config.embedding_multiplier = std::sqrt(static_cast<double>(config.hidden_size));
    config.attention_scale =
        1.0 / std::sqrt(fields.number("query_pre_attn_scalar", 1e-6, 1e6).value_or(256));
    FOVEAL_CHECK(fields.find("attn_logit_softcapping") == nullptr, ErrorKind::kUnsupported,
                 fields.source(), "got attn_logit_softcapping; need null");
    FOVEAL_CHECK(!fields.boolean("use_bidirectional_attention").value_or(false),
                 ErrorKind::kUnsupported, fields.source(),
                 "got use_bidirectional_attention; need a causal model");
    config.final_logit_softcap = fields.number("final_logit_softcapping", 1e-6, 1e6).value_or(0);
  }
  if (config.architecture == "granite") {
    config.embedding_multiplier = fields.number("embedding_multiplier", 1e-9, 1e9).value_or(1);
    config.residual_multiplier = fields.number("residual_multiplier", 1e-9, 1e9).value_or(1);
    config.attention_scale = fields.number("attention_multiplier", 1e-9, 1e9).value_or(1);
    config.logits_divisor = fields.number("logits_scaling", 1e-9, 1e9).value_or(1);
  }
}

}  // namespace

ModelConfig parse_config_json(std::string_view text, const std::string& source) {
  const boost::json::object top = parse_json_object(text, source);
  const JsonFields outer(top, source);
  // Multimodal checkpoints keep the language model's fields one level down.
  const auto* nested = top.if_contains("text_config");
  const bool inside = nested != nullptr && nested->is_object();
  const JsonFields fields(inside ? nested->get_object() : top, source, inside ? &top : nullptr);

  const FamilyDefaults& family = family_of(outer);
  ModelConfig config;
  read_quantised(config, fields);
  config.architecture = family.architecture;
  config.name = outer.text("_name_or_path").value_or("");
  read_sizes(config, fields, family);
  config.norm_eps = fields.number("rms_norm_eps", 1e-30, 1).value_or(family.norm_eps);
  config.activation = read_activation(fields);
  if (config.architecture == "gemma3" && !fields.has("hidden_activation") &&
      !fields.has("hidden_act")) {
    config.activation = kernels::Activation::kGeluTanh;
  }
  config.tie_embeddings = fields.boolean("tie_word_embeddings").value_or(family.tie_embeddings);
  config.attention_bias =
      config.architecture == "qwen2" || fields.boolean("attention_bias").value_or(false);
  config.mlp_bias = fields.boolean("mlp_bias").value_or(false);
  read_experts(config, fields);
  if (family.latent) read_latent(config, fields, family);
  read_scales(config, fields);
  read_rope(config, fields, family);
  if (config.latent) scale_latent(config);
  read_layers(config, fields);
  const auto bos = fields.token_ids("bos_token_id");
  if (!bos.empty()) config.bos_token = bos.front();
  // The outer list is the longer one where both levels have it (end of turn beside end of text).
  config.eos_tokens = outer.find("eos_token_id") != nullptr ? outer.token_ids("eos_token_id")
                                                            : fields.token_ids("eos_token_id");
  if (const auto* sparse = fields.find("sparse_attention_config")) {
    config.sparse_attention_json = boost::json::serialize(*sparse);
  }
  check_config(config, source);
  return config;
}

void add_generation_config(ModelConfig& config, std::string_view text, const std::string& source) {
  const boost::json::object top = parse_json_object(text, source);
  for (const int32_t token : JsonFields(top, source).token_ids("eos_token_id")) {
    auto& known = config.eos_tokens;
    if (std::find(known.begin(), known.end(), token) == known.end()) known.push_back(token);
  }
}

}  // namespace foveal::model

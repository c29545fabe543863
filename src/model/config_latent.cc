#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "model/config_check.h"
#include "model/config_json.h"

namespace foveal::model {
namespace {

using Limits = ConfigLimits;

int32_t integer_or(const JsonFields& fields, std::string_view name, int32_t least, int32_t most,
                   int32_t fallback) {
  return static_cast<int32_t>(fields.integer(name, least, most).value_or(fallback));
}

LatentConfig read_dims(const JsonFields& fields) {
  FOVEAL_CHECK(fields.has("q_lora_rank"), ErrorKind::kCorruptFile, fields.source(),
               "got no q_lora_rank; need it, or null for queries projected in one step");
  LatentConfig out;
  if (fields.find("q_lora_rank") != nullptr) {
    out.q_rank = fields.size("q_lora_rank", Limits::kHidden);
  }
  out.kv_rank = fields.size("kv_lora_rank", Limits::kHeadDim / 2);
  out.nope_dim = fields.size("qk_nope_head_dim", Limits::kHeadDim / 2);
  out.rope_dim = fields.size("qk_rope_head_dim", Limits::kHeadDim / 2);
  out.value_dim = fields.size("v_head_dim", Limits::kHeadDim);
  return out;
}

/// Layers that predict further tokens lengthen lists of layers; a number that is none is refused
/// where there are no such lists too.
void check_further_layers(const JsonFields& fields) {
  (void)fields.integer("num_nextn_predict_layers", 0, Limits::kLayers);
}

std::vector<uint8_t> pattern_flags(const JsonFields& fields, const std::string& pattern,
                                   int32_t num_layers) {
  FOVEAL_CHECK(pattern.size() >= static_cast<size_t>(num_layers) &&
                   pattern.find_first_not_of("FS") == std::string::npos,
               ErrorKind::kCorruptFile, fields.source(),
               "got index_topk_pattern '{}'; need F or S for each of {} layers",
               pattern.substr(0, 80), num_layers);
  std::vector<uint8_t> out;
  for (int32_t layer = 0; layer < num_layers; ++layer) {
    out.push_back(pattern[static_cast<size_t>(layer)] == 'F' ? 1 : 0);
  }
  return out;
}

/// Which layers choose keys themselves: by a list, a pattern, or a rule.
std::vector<uint8_t> read_full(const ModelConfig& config, const JsonFields& fields) {
  const int32_t layers = config.num_layers;
  const auto listed = layer_words(config, fields, "indexer_types", {"full", "shared"});
  const auto pattern = fields.text("index_topk_pattern");
  std::vector<uint8_t> out;
  if (pattern) out = pattern_flags(fields, *pattern, layers);
  FOVEAL_CHECK(!listed || !pattern || *listed == out, ErrorKind::kCorruptFile, fields.source(),
               "got indexer_types and an index_topk_pattern that says otherwise; need one, or both "
               "alike");
  if (listed) out = *listed;
  if (out.empty()) {
    const auto freq = fields.integer("index_topk_freq", 1, INT32_MAX).value_or(1);
    const auto offset = fields.integer("index_skip_topk_offset", 0, INT32_MAX).value_or(2);
    for (int64_t layer = 0; layer < layers; ++layer) {
      out.push_back(std::max<int64_t>(layer - offset + 1, 0) % freq == 0 ? 1 : 0);
    }
  }
  return out;
}

IndexerConfig read_indexer(const ModelConfig& config, const JsonFields& fields,
                           const FamilyDefaults& family) {
  FOVEAL_CHECK(fields.integer("index_kpool", 0, INT32_MAX).value_or(1) <= 1,
               ErrorKind::kUnsupported, fields.source(),
               "got index_kpool; need an index key for each token");
  IndexerConfig out;
  out.num_heads = integer_or(fields, "index_n_heads", 1, Limits::kHeads, family.index_heads);
  out.head_dim = integer_or(fields, "index_head_dim", 2, Limits::kHeadDim, 128);
  out.topk = integer_or(fields, "index_topk", 1, Limits::kIndexTopk, 2048);
  out.rope_interleave =
      fields.boolean("indexer_rope_interleave").value_or(config.architecture == "glm_moe_dsa");
  out.full = read_full(config, fields);
  return out;
}

/// V3.2's files say nothing of layer types, or that all are of this one, which transformers calls
/// indexed_attention since 5.24.
void check_layer_types(const ModelConfig& config, const JsonFields& fields) {
  constexpr std::string_view kSparse = "deepseek_sparse_attention";
  const auto types =
      layer_words(config, fields, "layer_types", {kSparse, "full_attention", "indexed_attention"});
  if (!types) return;
  const uint8_t need = config.indexer ? 1 : 0;
  FOVEAL_CHECK(std::all_of(types->begin(), types->end(), [&](auto x) { return x == need; }),
               ErrorKind::kUnsupported, fields.source(), "got other layer_types; need {} alone",
               need != 0 ? kSparse : "full_attention");
}

void read_router(ModelConfig& config, const JsonFields& fields) {
  const std::string& source = fields.source();
  const std::string scoring = fields.text("scoring_func").value_or("sigmoid");
  const std::string method = fields.text("topk_method").value_or("noaux_tc");
  FOVEAL_CHECK(scoring == "sigmoid" && method == "noaux_tc", ErrorKind::kUnsupported, source,
               "got scoring_func '{}' with topk_method '{}'; need sigmoid with noaux_tc", scoring,
               method);
  const bool v3 = config.architecture != "glm_moe_dsa";
  RouterConfig& router = config.router;
  router.sigmoid = true;
  router.num_groups = integer_or(fields, "n_group", 1, Limits::kExperts, v3 ? 8 : 1);
  router.topk_groups = integer_or(fields, "topk_group", 1, Limits::kExperts, v3 ? 4 : 1);
  router.scale = fields.number("routed_scaling_factor", 1e-9, 1e9).value_or(2.5);
}

void read_latent_experts(ModelConfig& config, const JsonFields& fields) {
  constexpr std::string_view kNames[] = {"n_routed_experts", "num_experts", "num_local_experts"};
  for (const std::string_view name : kNames) {
    if (config.num_experts != 0) break;
    config.num_experts = integer_or(fields, name, 1, Limits::kExperts, 0);
  }
  if (config.num_experts == 0) return;
  config.experts_per_token = fields.size("num_experts_per_tok", Limits::kExperts);
  config.moe_intermediate_size = fields.size("moe_intermediate_size", Limits::kIntermediate);
  config.norm_topk_prob = fields.boolean("norm_topk_prob").value_or(true);
  // DeepSeek's code takes null for none; where the field is absent, transformers' default counts.
  const int32_t absent = fields.has("n_shared_experts") ? 0 : 1;
  config.shared_intermediate_size = shared_experts_width(
      config, integer_or(fields, "n_shared_experts", 0, Limits::kExperts, absent), fields.source());
  read_router(config, fields);
}

}  // namespace

void read_latent(ModelConfig& config, const JsonFields& fields, const FamilyDefaults& family) {
  check_further_layers(fields);
  config.latent = read_dims(fields);
  // What the file calls head_dim is the rotating channels' number, or nothing that counts here.
  config.head_dim = config.latent->nope_dim + config.latent->rope_dim;
  config.num_kv_heads = config.num_heads;
  config.rope_style = fields.boolean("rope_interleave").value_or(true)
                          ? kernels::RopeStyle::kInterleaved
                          : kernels::RopeStyle::kHalf;
  if (family.index_heads > 0) {
    config.indexer = read_indexer(config, fields, family);
  } else {
    FOVEAL_CHECK(!fields.has("index_topk"), ErrorKind::kUnsupported, fields.source(),
                 "got index_topk in a {}; need model_type deepseek_v32 or glm_moe_dsa for a model "
                 "with an indexer",
                 config.architecture);
  }
  check_layer_types(config, fields);
  read_latent_experts(config, fields);
}

void scale_latent(ModelConfig& config) {
  const RopeConfig& rope = config.rope;
  double scale = 1.0 / std::sqrt(static_cast<double>(config.head_dim));
  if (rope.mscale_all_dim != 0 && rope.factor > 1) {
    const double mscale = 0.1 * rope.mscale_all_dim * std::log(rope.factor) + 1.0;
    scale *= mscale * mscale;
  }
  config.attention_scale = scale;
}

}  // namespace foveal::model

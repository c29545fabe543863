#include "model/gguf_latent.h"

#include <fmt/format.h>

#include <charconv>

#include "model/config_check.h"
#include "model/config_json.h"

namespace foveal::model {
namespace {

using Limits = ConfigLimits;

/// A head's channels. Files with kv_b_proj taken apart say key_length of the cache's rows, and of
/// heads key_length_mla; older ones have no such key and say key_length of heads.
LatentConfig read_dims(const GgufFields& fields) {
  LatentConfig out;
  const bool apart = fields.find("attention.key_length_mla") != nullptr;
  const auto length = [&](const std::string& of) {
    return fields.size("attention." + of + (apart ? "_length_mla" : "_length"), Limits::kHeadDim);
  };
  out.q_rank = fields.integer_or("attention.q_lora_rank", 0, Limits::kHidden, 0);
  out.kv_rank = fields.size("attention.kv_lora_rank", Limits::kHeadDim / 2);
  out.rope_dim = fields.size("rope.dimension_count", Limits::kHeadDim / 2);
  out.nope_dim = length("key") - out.rope_dim;
  out.value_dim = length("value");
  FOVEAL_CHECK(
      out.nope_dim > 0, ErrorKind::kCorruptFile, fields.source(),
      "got heads of {} channels, rope.dimension_count {}; need channels that do not rotate",
      out.nope_dim + out.rope_dim, out.rope_dim);
  return out;
}

/// Which layers have tensors of an indexer, whichever (the loader names those that are missing).
std::vector<uint8_t> layers_with_tensors(const GgufFile& file, int32_t layers) {
  std::vector<uint8_t> out(static_cast<size_t>(layers), 0);
  for (const GgufTensor& tensor : file.tensors) {
    constexpr std::string_view kBlock = "blk.";
    if (!tensor.name.starts_with(kBlock)) continue;
    const std::string_view rest = tensor.name.substr(kBlock.size());
    size_t layer = 0;
    const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), layer);
    if (error != std::errc{} || layer >= out.size()) continue;
    if (rest.substr(static_cast<size_t>(end - rest.data())).starts_with(".indexer.")) {
      out[layer] = 1;
    }
  }
  return out;
}

/// attention.indexer.types: flags, or transformers' words; empty without the key.
std::vector<uint8_t> listed_layers(const GgufFields& fields, size_t layers) {
  const GgufValue* value = fields.find("attention.indexer.types");
  std::vector<uint8_t> out;
  if (value == nullptr) return out;
  if (const auto flags = value->as_ints()) {
    for (const int64_t flag : *flags) out.push_back(flag != 0 ? 1 : 0);
  } else if (const auto words = value->as_strings()) {
    for (const std::string_view word : *words) {
      FOVEAL_CHECK(word == "full" || word == "shared", ErrorKind::kUnsupported, fields.source(),
                   "got '{}' in attention.indexer.types; need full or shared", word);
      out.push_back(word == "full" ? 1 : 0);
    }
  }
  FOVEAL_CHECK(out.size() >= layers, ErrorKind::kCorruptFile, fields.source(),
               "got {} entries in attention.indexer.types; need {}", out.size(), layers);
  out.resize(layers);  // it may go on about layers that predict further tokens
  return out;
}

/// Layers with tensors of an indexer choose keys themselves. A list that says so too must agree.
std::vector<uint8_t> layers_with_indexers(const ModelConfig& config, const GgufFile& file,
                                          const GgufFields& fields) {
  const std::vector<uint8_t> out = layers_with_tensors(file, config.num_layers);
  const std::vector<uint8_t> listed = listed_layers(fields, out.size());
  for (size_t layer = 0; layer < listed.size(); ++layer) {
    const bool full = listed[layer] != 0;
    FOVEAL_CHECK(full == (out[layer] != 0), ErrorKind::kCorruptFile, fields.source(),
                 "got attention.indexer.types with layer {} {}, and {} tensors blk.{}.indexer.*; "
                 "need a list and tensors that agree",
                 layer, full ? "full" : "shared", full ? "no" : "some", layer);
  }
  // A layer without may share what another one chose where a list says so, or in GLM; the first one
  // cannot.
  const bool may_share = !listed.empty() || config.architecture == "glm_moe_dsa";
  const size_t must = may_share ? 1 : out.size();
  for (size_t layer = 0; layer < must; ++layer) {
    FOVEAL_CHECK(out[layer] != 0, ErrorKind::kCorruptFile, fields.source(),
                 "got no tensor blk.{}.indexer.attn_k.weight; need the indexer's tensors (a file "
                 "without them is not of a {} model)",
                 layer, config.architecture);
  }
  return out;
}

IndexerConfig read_indexer(const ModelConfig& config, const GgufFile& file,
                           const GgufFields& fields) {
  IndexerConfig out;
  out.num_heads = fields.size("attention.indexer.head_count", Limits::kHeads);
  out.head_dim = fields.size("attention.indexer.key_length", Limits::kHeadDim);
  out.topk = fields.size("attention.indexer.top_k", Limits::kIndexTopk);
  out.rope_interleave = config.architecture == "glm_moe_dsa";
  out.full = layers_with_indexers(config, file, fields);
  return out;
}

/// ggml's numbers of how scores of experts come about.
void check_gating(const ModelConfig& config, const GgufFields& fields) {
  constexpr int32_t kSigmoid = 2;
  constexpr int32_t kSoftmax = 1;
  // DeepSeek-V2's files do without the key, those of models with an indexer may.
  const int32_t assumed = config.indexer ? kSigmoid : kSoftmax;
  const int32_t gating = fields.integer_or("expert_gating_func", 0, 255, assumed);
  FOVEAL_CHECK(
      (gating == 0 ? assumed : gating) == kSigmoid, ErrorKind::kUnsupported, fields.source(),
      "got expert_gating_func {}; need {} (sigmoid: DeepSeek-V3 and later)", gating, kSigmoid);
}

}  // namespace

void read_gguf_latent(ModelConfig& config, const GgufFile& file, const GgufFields& fields) {
  const auto further = fields.integer_or("nextn_predict_layers", 0, Limits::kLayers, 0);
  FOVEAL_CHECK(further < config.num_layers, ErrorKind::kCorruptFile, fields.source(),
               "got nextn_predict_layers {} of block_count {}; need fewer", further,
               config.num_layers);
  config.num_layers -= further;
  config.latent = read_dims(fields);
  config.head_dim = config.latent->nope_dim + config.latent->rope_dim;
  config.num_kv_heads = config.num_heads;
  if (config.architecture != "deepseek_v3") config.indexer = read_indexer(config, file, fields);
}

void scale_gguf_latent(ModelConfig& config, const GgufFields& fields) {
  RopeConfig& rope = config.rope;
  if (rope.scaling == RopeConfig::Scaling::kYarn) {
    const auto multiplier = fields.number("rope.scaling.yarn_log_multiplier", 1e-6, 1e6);
    FOVEAL_CHECK(multiplier, ErrorKind::kCorruptFile, fields.source(),
                 "got rope.scaling.type yarn and no rope.scaling.yarn_log_multiplier; need it");
    FOVEAL_CHECK(fields.number("rope.scaling.attn_factor", 0, 1e6).value_or(1) == 1,
                 ErrorKind::kUnsupported, fields.source(),
                 "got rope.scaling.attn_factor for latent attention; need none");
    // A tenth of mscale_all_dim, in float32. Its partner mscale is not in the files; in released
    // models it is the same, so that cos and sin have no factor.
    rope.mscale_all_dim = static_cast<float>(*multiplier) / 0.1F;
    rope.mscale = rope.mscale_all_dim;
  }
  scale_latent(config);
}

void read_gguf_latent_experts(ModelConfig& config, const GgufFields& fields) {
  config.moe_layers.assign(static_cast<size_t>(config.num_layers), 0);
  config.num_experts = fields.integer_or("expert_count", 0, Limits::kExperts, 0);
  if (config.num_experts == 0) return;
  const int32_t dense = fields.integer_or("leading_dense_block_count", 0, Limits::kLayers, 0);
  for (int32_t layer = dense; layer < config.num_layers; ++layer) {
    config.moe_layers[static_cast<size_t>(layer)] = 1;
  }
  config.experts_per_token = fields.size("expert_used_count", Limits::kExperts);
  config.moe_intermediate_size = fields.size("expert_feed_forward_length", Limits::kIntermediate);
  config.norm_topk_prob = fields.boolean("expert_weights_norm").value_or(false);
  config.shared_intermediate_size = shared_experts_width(
      config, fields.integer_or("expert_shared_count", 0, Limits::kExperts, 0), fields.source());
  check_gating(config, fields);
  RouterConfig& router = config.router;
  router.sigmoid = true;
  router.num_groups = fields.integer_or("expert_group_count", 1, Limits::kExperts, 1);
  router.topk_groups =
      fields.integer_or("expert_group_used_count", 1, Limits::kExperts, router.num_groups);
  router.scale = fields.number("expert_weights_scale", 0, 1e9).value_or(1);
  if (router.scale == 0) router.scale = 1;  // how some files write "none"
}

}  // namespace foveal::model

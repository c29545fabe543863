#pragma once

#include <string>
#include <string_view>

#include "model/config.h"
#include "model/json_fields.h"

namespace foveal::model {

/// What a family's configuration class in transformers assumes when config.json is silent.
struct FamilyDefaults {
  std::string_view architecture;
  bool tie_embeddings;
  int32_t head_dim;      ///< 0: hidden / heads
  int32_t num_kv_heads;  ///< 0: as many as heads
  int64_t max_positions;
  double rope_theta;
  double norm_eps;
  bool latent = false;
  int32_t index_heads = 0;  ///< 0: it has no indexer
};

/// Hyperparameters from the text of a Hugging Face config.json, in the old spelling (`rope_theta`,
/// `rope_scaling`) or the new one (`rope_parameters`). Throws kCorruptFile naming the field, or
/// kUnsupported for an unknown architecture, quantised weights or an unknown kind of rope scaling.
ModelConfig parse_config_json(std::string_view text, const std::string& source);

/// Adds the end tokens of a generation_config.json to those of config.json.
void add_generation_config(ModelConfig& config, std::string_view text, const std::string& source);

/// Fills what concerns weights in e4m3.
void read_quantised(ModelConfig& config, const JsonFields& fields);

/// Fills rope, local_rope and rotary_dim; needs head_dim, max_positions and architecture.
void read_rope(ModelConfig& config, const JsonFields& fields, const FamilyDefaults& family);

/// Fills latent, indexer, head_dim, num_kv_heads and the experts of DeepSeek-V3 and its kin; needs
/// num_layers, num_heads and max_positions.
void read_latent(ModelConfig& config, const JsonFields& fields, const FamilyDefaults& family);

/// Multiplies the softmax scale of latent attention by what YaRN asks for; needs rope.
void scale_latent(ModelConfig& config);

struct TwoWords {
  std::string_view yes;
  std::string_view no;
  std::string_view also_yes = {};  ///< a later spelling
};

/// A list of one of two words a layer (`layer_types` and its kin) as flags, absent where there is
/// none. It may go on about the layers that predict further tokens.
std::optional<std::vector<uint8_t>> layer_words(const ModelConfig& config, const JsonFields& fields,
                                                std::string_view name, const TwoWords& known);

/// Fills windows, use_rope and moe_layers; needs num_layers, architecture and the expert counts.
void read_layers(ModelConfig& config, const JsonFields& fields);

}  // namespace foveal::model

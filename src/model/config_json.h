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
};

/// Hyperparameters from the text of a Hugging Face config.json, in the old spelling (`rope_theta`,
/// `rope_scaling`) or the new one (`rope_parameters`). Throws kCorruptFile naming the field, or
/// kUnsupported for an unknown architecture, quantised weights or an unknown kind of rope scaling.
ModelConfig parse_config_json(std::string_view text, const std::string& source);

/// Adds the end tokens of a generation_config.json to those of config.json.
void add_generation_config(ModelConfig& config, std::string_view text, const std::string& source);

/// Fills rope, local_rope and rotary_dim; needs head_dim, max_positions and architecture.
void read_rope(ModelConfig& config, const JsonFields& fields, const FamilyDefaults& family);

/// Fills windows, use_rope and moe_layers; needs num_layers, architecture and the expert counts.
void read_layers(ModelConfig& config, const JsonFields& fields);

}  // namespace foveal::model

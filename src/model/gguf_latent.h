#pragma once

#include "model/config.h"
#include "model/gguf_fields.h"

namespace foveal::model {

// Latent attention in GGUF: general.architecture deepseek2 (DeepSeek-V3, R1 and their kin),
// deepseek32 (V3.2) and glm-dsa (GLM-5), as llama.cpp's converter writes them.

/// Fills latent, indexer, head_dim, num_kv_heads and num_layers (without the layers that predict
/// further tokens); needs the layers that the file counts and num_heads.
void read_gguf_latent(ModelConfig& config, const GgufFile& file, const GgufFields& fields);

/// What YaRN asks for; needs rope.
void scale_gguf_latent(ModelConfig& config, const GgufFields& fields);

/// The experts and how they are chosen.
void read_gguf_latent_experts(ModelConfig& config, const GgufFields& fields);

}  // namespace foveal::model

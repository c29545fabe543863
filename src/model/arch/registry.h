#pragma once

#include <string>
#include <string_view>

#include "model/config.h"

namespace foveal::model {

/// Where a family differs from the plain pre-norm decoder with gated MLP. Sizes, scales, windows
/// and rope are in ModelConfig; these are matters of structure and of tensor names.
struct DecoderTraits {
  bool qkv_bias = false;
  bool fused_qkv = false;       ///< one qkv_proj instead of three
  bool fused_gate_up = false;   ///< one gate_up_proj instead of two
  bool qk_norm = false;         ///< RMSNorm on every head of q and k before rope
  bool sandwich_norms = false;  ///< a norm after each block too, before it joins the residual
  float norm_offset = 0;        ///< norms multiply by (offset + w)
};

/// One architecture: a file in this folder, its declaration below, a line in registry.cc. What its
/// config.json leaves out is a line of kFamilies in config_json.cc; its GGUF name one in
/// gguf_config.cc.
struct Architecture {
  std::string_view name;  ///< ModelConfig::architecture
  DecoderTraits (*traits)(const ModelConfig& config);
};

/// Throws kUnsupported with the known names.
const Architecture& find_architecture(std::string_view name);

// One a file in this folder.
DecoderTraits deepseek_v3_traits(const ModelConfig& config);
DecoderTraits gemma3_traits(const ModelConfig& config);
DecoderTraits granite_traits(const ModelConfig& config);
DecoderTraits llama_traits(const ModelConfig& config);
DecoderTraits mistral_traits(const ModelConfig& config);
DecoderTraits phi3_traits(const ModelConfig& config);
DecoderTraits qwen2_traits(const ModelConfig& config);
DecoderTraits qwen3_traits(const ModelConfig& config);
DecoderTraits qwen3_moe_traits(const ModelConfig& config);
DecoderTraits smollm3_traits(const ModelConfig& config);

}  // namespace foveal::model

#include "model/arch/registry.h"

namespace foveal::model {

// Llama's structure; some layers do not rotate (ModelConfig::use_rope).
DecoderTraits smollm3_traits(const ModelConfig& config) {
  DecoderTraits traits;
  traits.qkv_bias = config.attention_bias;
  return traits;
}

}  // namespace foveal::model

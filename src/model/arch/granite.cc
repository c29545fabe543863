#include "model/arch/registry.h"

namespace foveal::model {

// Llama's structure; multipliers on embedding, residual, attention and logits are in the config.
DecoderTraits granite_traits(const ModelConfig& config) {
  DecoderTraits traits;
  traits.qkv_bias = config.attention_bias;
  return traits;
}

}  // namespace foveal::model

#include "model/arch/registry.h"

namespace foveal::model {

// Llama 2 and 3, SmolLM2, and what else calls itself llama: the plain decoder. Llama 3's rope
// scaling is in the config.
DecoderTraits llama_traits(const ModelConfig& config) {
  DecoderTraits traits;
  traits.qkv_bias = config.attention_bias;
  return traits;
}

}  // namespace foveal::model

#include "model/arch/registry.h"

namespace foveal::model {

// No biases by default; q and k are normalised per head before rope.
DecoderTraits qwen3_traits(const ModelConfig& config) {
  DecoderTraits traits;
  traits.qk_norm = true;
  traits.qkv_bias = config.attention_bias;
  return traits;
}

}  // namespace foveal::model

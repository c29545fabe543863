#include "model/arch/registry.h"

namespace foveal::model {

// Norms around each block on both sides, q and k normalised per head, norms that multiply by (1 +
// w) (GGUF files have the 1 baked in). Embedding and softmax scales, and the rope of local layers,
// are in the config.
DecoderTraits gemma3_traits(const ModelConfig& config) {
  DecoderTraits traits;
  traits.qk_norm = true;
  traits.sandwich_norms = true;
  traits.norm_offset = config.from_gguf ? 0.0F : 1.0F;
  traits.qkv_bias = config.attention_bias;
  return traits;
}

}  // namespace foveal::model

#include "model/arch/registry.h"

namespace foveal::model {

// Llama's structure; a sliding window on every layer where the config has one.
DecoderTraits mistral_traits(const ModelConfig& config) {
  DecoderTraits traits;
  traits.rope_style = permuted_rope(config);
  return traits;
}

}  // namespace foveal::model

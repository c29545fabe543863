#include "model/arch/registry.h"

namespace foveal::model {

// Qwen3's attention; experts instead of the MLP in the layers the config names.
DecoderTraits qwen3_moe_traits(const ModelConfig& config) {
  DecoderTraits traits = qwen3_traits(config);
  return traits;
}

}  // namespace foveal::model

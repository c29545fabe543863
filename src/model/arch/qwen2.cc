#include "model/arch/registry.h"

namespace foveal::model {

// Bias on q, k and v, always and only there, whatever the config says.
DecoderTraits qwen2_traits(const ModelConfig& config) {
  static_cast<void>(config);
  DecoderTraits traits;
  traits.qkv_bias = true;
  return traits;
}

}  // namespace foveal::model

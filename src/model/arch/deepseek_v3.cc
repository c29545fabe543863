#include "model/arch/registry.h"

namespace foveal::model {

// DeepSeek-V3 and R1, V3.2 and GLM-5: multi-head latent attention, experts chosen by sigmoids in
// the layers the config names. All of it, and V3.2's and GLM-5's indexer, is in the config.
DecoderTraits deepseek_v3_traits(const ModelConfig& config) {
  static_cast<void>(config);
  return {};
}

}  // namespace foveal::model

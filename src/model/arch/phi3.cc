#include "model/arch/registry.h"

namespace foveal::model {

// One matrix for q, k and v, one for gate and up; rope may cover only part of a head.
DecoderTraits phi3_traits(const ModelConfig& config) {
  static_cast<void>(config);
  DecoderTraits traits;
  traits.fused_qkv = true;
  traits.fused_gate_up = true;
  return traits;
}

}  // namespace foveal::model

#pragma once

#include <memory>

#include "model/arch/registry.h"
#include "model/model.h"

namespace foveal::model {

/// The decoder on CUDA: bf16 weights and activations, a float32 residual stream, float32 logits.
/// Throws kUnsupported in builds without CUDA.
std::unique_ptr<Model> make_cuda_decoder(const Checkpoint& checkpoint, const DecoderTraits& traits,
                                         const ModelLimits& limits, Stream& stream);

}  // namespace foveal::model

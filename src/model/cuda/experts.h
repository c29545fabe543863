#pragma once

#include "model/cuda/layer.h"
#include "model/cuda/products.h"
#include "model/cuda/scratch.h"

namespace foveal::model {

/// A mixture of experts over the normed rows of `scratch`, added to its residual stream. The host
/// never learns which experts were chosen.
void run_experts(const DeviceExperts& experts, const ModelConfig& config, const StepRows& rows,
                 const DecoderScratch& scratch, Products& products, Stream& stream);

}  // namespace foveal::model

#pragma once

#include "kernels/cuda/latent_context.h"

namespace foveal::kernels::cuda {

void latent_context_launch(const LatentContextParams& params, int32_t page_shift, void* stream);
void head_weights_launch(const HeadWeightsParams& params, void* stream);

}  // namespace foveal::kernels::cuda

#pragma once

#include "kernels/cuda/latent_inputs.h"

namespace foveal::kernels::cuda {

void latent_inputs_launch(const LatentInputsParams& params, void* stream);
void index_inputs_launch(const IndexInputsParams& params, void* stream);

}  // namespace foveal::kernels::cuda

#pragma once

#include "foveal/kernels_rocket.h"

namespace foveal::kernels::cuda {

void launch_top_k(const foveal_top_k_params& params, void* stream);

}  // namespace foveal::kernels::cuda

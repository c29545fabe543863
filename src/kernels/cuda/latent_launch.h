#pragma once

#include "foveal/kernels_mla.h"

namespace foveal::kernels::cuda {

void launch_latent_rows(const foveal_mla_rows_params& params, void* stream);
void launch_latent_store(const foveal_mla_store_params& params, void* stream);

}  // namespace foveal::kernels::cuda

#pragma once

#include "foveal/kernels_mla.h"
#include "kernels/cuda/latent_any.h"
#include "kernels/cuda/sm90/latent_args.h"

namespace foveal::kernels::cuda {

/// A call's arguments over rows of `row_bytes`.
foveal::cuda::LatentArgs latent_args(const foveal_mla_params& params, int64_t row_bytes,
                                     int32_t splits);

void launch_latent_any(const foveal::cuda::LatentArgs& args, const LatentDims& dims, void* stream);
void launch_latent_rows(const foveal_mla_rows_params& params, void* stream);
void launch_latent_store(const foveal_mla_store_params& params, const LatentDims& dims,
                         void* stream);

}  // namespace foveal::kernels::cuda

#pragma once

#include "kernels/cuda/dense_gemm.h"

namespace foveal::kernels::cuda {

/// The decode kernel; `params` are checked, m <= kMaxDecodeRows, e4m3 without a scale of x.
void skinny_gemm_launch(const DenseGemmParams& params, void* stream);
void skinny_gated_launch(const GatedGemmParams& params, void* stream);

}  // namespace foveal::kernels::cuda

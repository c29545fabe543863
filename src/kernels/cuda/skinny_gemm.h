#pragma once

#include "kernels/cuda/dense_gemm.h"

namespace foveal::kernels::cuda {

/// The decode kernel; `params` are checked, m <= kMaxDecodeRows, dtype bf16 or f16.
void skinny_gemm_launch(const DenseGemmParams& params, void* stream);
void skinny_gated_launch(const GatedGemmParams& params, void* stream);

}  // namespace foveal::kernels::cuda

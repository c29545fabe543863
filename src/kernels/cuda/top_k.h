#pragma once

#include "foveal/kernels_top_k.h"

namespace foveal::kernels::cuda {

/// foveal_top_k for callers in C++: throws kInvalidArgument or kUnsupported, naming the field.
/// `stream` is a cudaStream_t of the current device.
void top_k(const foveal_top_k_params& params, void* stream);

}  // namespace foveal::kernels::cuda

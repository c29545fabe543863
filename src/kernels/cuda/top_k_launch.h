#pragma once

#include <cstdint>

#include "foveal/kernels_top_k.h"

namespace foveal::kernels::cuda {

/// Of a call that was checked; `processors` are the device's.
void launch_top_k(const foveal_top_k_params& params, int32_t processors, void* stream);

}  // namespace foveal::kernels::cuda

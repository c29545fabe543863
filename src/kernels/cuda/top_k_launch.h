#pragma once

#include <cstdint>

#include "foveal/kernels_top_k.h"
#include "kernels/cuda/sm90/top_k_args.h"

namespace foveal::kernels::cuda {

/// Of a call that was checked; `processors` are the device's.
void launch_top_k(const foveal_top_k_params& params, int32_t processors, void* stream);

/// The same for rows that a cluster's registers hold, if they are few enough to run side by side;
/// else false, and nothing is done. Of the arguments what says how the row is spread is its own.
bool launch_top_k_resident(const TopKArgs& planned, int32_t processors, void* stream);

}  // namespace foveal::kernels::cuda

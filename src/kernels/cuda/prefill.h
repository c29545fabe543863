#pragma once

#include "foveal/kernels.h"
#include "kernels/cuda/sm90/prefill_launch.h"

namespace foveal::kernels::cuda {

/// What a prefill call runs, from sizes alone.
struct PrefillConfig {
  foveal::cuda::PrefillChoice choice;
  int32_t head_dim = 0;
  int32_t box_rows = 0;  ///< keys a bulk copy
};
PrefillConfig choose_prefill(const foveal_attention_params& params);

}  // namespace foveal::kernels::cuda

#pragma once

#include "kernels/cuda/sample.h"

namespace foveal::kernels::cuda {

void sample_launch(const SampleParams& params, void* stream);

}  // namespace foveal::kernels::cuda

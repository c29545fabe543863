#pragma once

#include "kernels/cuda/token_logprob.h"

namespace foveal::kernels::cuda {

void token_logprobs_launch(const TokenLogprobParams& params, void* stream);

}  // namespace foveal::kernels::cuda

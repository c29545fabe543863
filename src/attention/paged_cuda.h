#pragma once

#include "attention/method.h"
#include "foveal/kernels.h"

// What methods share that call CUDA kernels; only in builds with CUDA.

namespace foveal::attention {

/// The foveal_dtype of activations or of a cache.
int32_t cuda_dtype(DType dtype);

/// A call's parameters but for its workspace; with a skip_factor above 0 its counters and
/// the sequences' own factors too.
foveal_attention_params paged_params(const AttendArgs& args, float skip_factor);

/// `bytes` of the phase's workspace. Throws kInternal where a step that is being recorded needs
/// more than it did before.
void give_workspace(foveal_attention_params& params, size_t bytes, const AttendArgs& args,
                    const Stream& stream);

}  // namespace foveal::attention

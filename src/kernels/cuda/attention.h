#pragma once

#include "foveal/kernels.h"

// The CUDA attention kernels for callers in C++: the entries of foveal/kernels.h, with errors
// thrown. `stream` is a cudaStream_t of the current device.

namespace foveal::kernels::cuda {

/// Throw kInvalidArgument or kUnsupported, naming the field, for a call no kernel serves.
void attention_prefill(const foveal_attention_params& params, void* stream);
void attention_decode(const foveal_attention_params& params, void* stream);

size_t prefill_workspace_bytes(const foveal_attention_params& params);
/// At least that, and nearly the same for every call over one pool of pages.
size_t prefill_pool_workspace_bytes(const foveal_attention_params& params);
size_t decode_workspace_bytes(const foveal_attention_params& params);

foveal_attention_tiling prefill_tiling(const foveal_attention_params& params);
foveal_attention_tiling decode_tiling(const foveal_attention_params& params);

}  // namespace foveal::kernels::cuda

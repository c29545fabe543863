#pragma once

#include "foveal/kernels_mla.h"

// Latent attention on CUDA for callers in C++: the entries of foveal/kernels_mla.h, with errors
// thrown. `stream` is a cudaStream_t of the current device.

namespace foveal::kernels::cuda {

/// Throw kInvalidArgument or kUnsupported, naming the field, for a call no kernel serves.
void mla_attention(const foveal_mla_params& params, void* stream);
void mla_rows(const foveal_mla_rows_params& params, void* stream);
void mla_store(const foveal_mla_store_params& params, void* stream);

/// On the current device; 0 where none is usable, or none is needed.
size_t mla_workspace_bytes(const foveal_mla_params& params);

/// Parts that a row's keys are cut into on a device of `processors`.
int32_t mla_splits(const foveal_mla_params& params, int32_t processors);
/// The same on the current device.
int32_t mla_splits(const foveal_mla_params& params);

/// The call of some of its rows alone.
foveal_mla_params mla_some_rows(foveal_mla_params params, int32_t first, int32_t count);

void mla_check_sizes(const foveal_mla_params& params);
void mla_check(const foveal_mla_params& params);
void mla_rows_check(const foveal_mla_rows_params& params);
void mla_store_check(const foveal_mla_store_params& params);

}  // namespace foveal::kernels::cuda

#pragma once

#include "foveal/kernels.h"
#include "kernels/cuda/decode_choose.h"
#include "kernels/cuda/sm90/decode_args.h"

namespace foveal::kernels::cuda {

/// The kernel of a choice, by KV dtype; null where none is compiled.
const void* decode_kernel_bf16(const DecodeShape& shape);
const void* decode_kernel_f16(const DecodeShape& shape);
const void* decode_kernel_e4m3(const DecodeShape& shape);

/// Checks, chooses and launches on the current device. Throws Error; nothing synchronises.
void decode_attention(const foveal_attention_params& params, void* cuda_stream);

}  // namespace foveal::kernels::cuda

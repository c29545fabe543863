#pragma once

#include "foveal/kernels.h"
#include "kernels/cuda/decode_choose.h"
#include "kernels/cuda/sm90/decode_args.h"

namespace foveal::kernels::cuda {

/// The kernel of a choice, by KV dtype; null where none is compiled.
const void* decode_kernel_bf16(const DecodeShape& shape);
const void* decode_kernel_f16(const DecodeShape& shape);
const void* decode_kernel_e4m3(const DecodeShape& shape);

}  // namespace foveal::kernels::cuda

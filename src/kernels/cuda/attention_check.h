#pragma once

#include <string_view>

#include "foveal/kernels.h"

namespace foveal::kernels::cuda {

/// What prefill and decode ask of their parameters alike: shapes, strides, pointers. Throws
/// kInvalidArgument or kUnsupported; `where` opens the message.
void check_attention(const foveal_attention_params& params, std::string_view where);

/// The part of it that workspace and tiling follow from: struct_size, counts, dtypes, page size.
void check_sizes(const foveal_attention_params& params, std::string_view where);

/// The calling thread's current GPU. Throws kUnsupported unless the kernels run on it.
int usable_device(std::string_view where);

/// Bytes of one element of a foveal_dtype.
int32_t element_bytes(int32_t dtype);

}  // namespace foveal::kernels::cuda

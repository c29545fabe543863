#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "foveal/kernels.h"

namespace foveal::kernels::cuda {

/// What prefill and decode ask of their parameters alike: shapes, strides, pointers. Throws
/// kInvalidArgument or kUnsupported; `where` opens the message.
void check_attention(const foveal_attention_params& params, std::string_view where);

/// The part of it that workspace and tiling follow from: struct_size, counts, dtypes, page size.
void check_sizes(const foveal_attention_params& params, std::string_view where);

/// What calls of all families ask alike. `header`: the one that a caller was built against.
void check_struct_size(size_t got, size_t need, std::string_view header, std::string_view where);
void check_head_dim(int32_t head_dim, std::string_view where);
void check_workspace(const void* workspace, size_t bytes, size_t need, std::string_view where);

/// The calling thread's current GPU. Throws kUnsupported unless the kernels run on it.
int usable_device(std::string_view where);

/// Bytes of one element of a foveal_dtype.
int32_t element_bytes(int32_t dtype);

}  // namespace foveal::kernels::cuda

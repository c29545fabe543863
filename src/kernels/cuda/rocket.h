#pragma once

#include "foveal/kernels_rocket.h"

// RocketKV's CUDA kernels for callers in C++: the entries of foveal/kernels_rocket.h, with errors
// thrown. `stream` is a cudaStream_t of the current device.

namespace foveal::kernels::cuda {

/// Throw kInvalidArgument or kUnsupported, naming the field, for a call no kernel serves.
void rocket_decode(const foveal_rocket_params& params, void* stream);
void rocket_prompt(const foveal_rocket_prompt_params& params, void* stream);
void rocket_compact(const foveal_compact_params& params, void* stream);
void rocket_candidates(const foveal_candidates_params& params, void* stream);
void rocket_bounds(const foveal_bounds_params& params, void* stream);

/// What foveal_rocket_prompt_params.kernel_size may be.
inline constexpr int32_t kMostPoolKernel = 4095;

/// Every KV head keeps tokens first to first + count - 1: `kept` [num_kv_heads, stride].
void rocket_keep_range(int32_t* kept, int64_t stride, int32_t num_kv_heads, int32_t first,
                       int32_t count, void* stream);

/// Copies the queries of positions [position, position + num_rows) to rows position % window of a
/// ring, as rocket_prompt reads it; of more than `window` the last.
struct RocketPush {
  const void* q = nullptr;  ///< [num_rows, row_bytes], multiples of 16 bytes throughout
  int64_t q_stride_bytes = 0;
  int32_t row_bytes = 0;
  void* ring = nullptr;  ///< [window, row_bytes]
  int32_t window = 0;
  int32_t position = 0;
  int32_t num_rows = 0;
};
void rocket_push(const RocketPush& push, void* stream);

size_t rocket_decode_workspace_bytes(const foveal_rocket_params& params);
size_t rocket_prompt_workspace_bytes(const foveal_rocket_prompt_params& params);

/// The parts of the checks that need sizes alone.
void rocket_check_sizes(const foveal_rocket_params& params);
void rocket_check(const foveal_rocket_params& params);
void rocket_prompt_check_sizes(const foveal_rocket_prompt_params& params);
void rocket_prompt_check(const foveal_rocket_prompt_params& params);
void rocket_compact_check(const foveal_compact_params& params);
void rocket_candidates_check(const foveal_candidates_params& params);
void rocket_bounds_check(const foveal_bounds_params& params);

}  // namespace foveal::kernels::cuda

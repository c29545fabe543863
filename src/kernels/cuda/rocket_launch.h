#pragma once

#include "foveal/kernels_rocket.h"
#include "kernels/cuda/sm90/rocket_args.h"
#include "kernels/cuda/sm90/rocket_window_args.h"

namespace foveal::kernels::cuda {

/// The kernels that score, of a shape and what bounds are stored as; null where none is compiled.
struct ScoreKernels {
  const void* choose = nullptr;  ///< and select: rows that fit a CTA
  const void* score = nullptr;
};
ScoreKernels rocket_score_kernels_e5m2(const ScoreShape& shape);
ScoreKernels rocket_score_kernels_bf16(const ScoreShape& shape);
/// What follows the latter.
const void* rocket_select(bool cluster);

/// The two passes over a prompt's keys.
struct WindowKernels {
  const void* rows = nullptr;
  const void* columns = nullptr;
  int32_t shared_bytes = 0;
};
WindowKernels rocket_window_kernels_bf16(int32_t head_dim);
WindowKernels rocket_window_kernels_f16(int32_t head_dim);
WindowKernels rocket_window_kernels_e4m3(int32_t head_dim);

/// What follows the scores of a prompt's keys.
struct PoolArgs {
  const float* scores;  ///< [num_kv_heads, parts, prefix]
  float* pooled;        ///< [num_kv_heads, prefix]
  float* sums;          ///< the parts' sums, likewise; or null
  int32_t* kept;        ///< [num_kv_heads, budget]: its last `window` are written
  int32_t num_kv_heads;
  int32_t parts;
  int32_t prefix;
  int32_t window;
  int32_t budget;
  int32_t kernel_size;
  int32_t sink_tokens;
};
void launch_rocket_pool(const PoolArgs& args, void* stream);
void launch_rocket_compact(const foveal_compact_params& params, void* stream);
void launch_rocket_candidates(const foveal_candidates_params& params, void* stream);
void launch_rocket_bounds(const foveal_bounds_params& params, void* stream);

}  // namespace foveal::kernels::cuda

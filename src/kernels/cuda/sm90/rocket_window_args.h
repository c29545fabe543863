#pragma once

#include <cstdint>

#include "kernels/cuda/sm90/decode_args.h"

namespace foveal::kernels::cuda {

inline constexpr int32_t kWindowRows = 128;    ///< rows of a CTA: 16 a warp
inline constexpr int32_t kWindowKeys = 64;     ///< keys of a step
inline constexpr int32_t kWindowSplit = 1024;  ///< keys of a CTA, at absolute positions

/// What the kernels of a prompt's end read. A row of a KV head is one window query of one of its
/// query heads: row h * window + i stands at position prompt_len - window + i.
struct WindowArgs {
  DecodeArgs decode;  ///< q, k, their strides and types, group, scale_log2
  int32_t num_kv_heads;
  int32_t prompt_len;
  int32_t window;
  int32_t row_blocks;
  int32_t splits;
  float* stats;   ///< [num_kv_heads, splits, row_blocks * kWindowRows, 2]: maximum (log2), sum
  float* scores;  ///< [num_kv_heads, row_blocks, prompt_len - window]
};

}  // namespace foveal::kernels::cuda

#pragma once

#include <cstdint>

#include "device/stream.h"
#include "kernels/elementwise.h"

// What multi-head latent attention does to its projections before attention, one kernel a call. All
// pointers are device memory at multiples of 16 bytes, and so are rows; bf16 travels as uint16_t.

namespace foveal::kernels::cuda {

/// Rotation by position, of the same channels of queries and keys.
struct LatentRope {
  const int32_t* positions = nullptr;  ///< [m]
  const float* cos_table = nullptr;    ///< [max_position, dim / 2]
  const float* sin_table = nullptr;    ///< likewise
  int32_t dim = 0;                     ///< a multiple of 16
  RopeStyle style = RopeStyle::kInterleaved;
};

/// rows = [RMS norm of a latent | its rotated channels], as the cache has them; and the rotated
/// channels of every query head to where they lie in its absorbed query, or of the first rows where
/// they lie.
struct LatentInputsParams {
  const float* latents = nullptr;  ///< [m, rank + rope.dim], row stride latents_stride
  const float* norm = nullptr;     ///< [rank], read early, as DenseGemmParams::weight
  uint16_t* rows = nullptr;        ///< [m, rank + rope.dim]
  uint16_t* q = nullptr;           ///< [m, num_heads, nope_dim + rope.dim], row stride q_stride
  uint16_t* absorbed = nullptr;    ///< [m, num_heads, rank + rope.dim]: channels from `rank` on
  int64_t m = 0;
  int64_t in_place = 0;  ///< rows whose queries are rotated in q; `absorbed` is not touched there
  int64_t latents_stride = 0;
  int64_t q_stride = 0;
  int32_t num_heads = 0;
  int32_t nope_dim = 0;
  int32_t rank = 0;  ///< a multiple of 8, at most 896
  float norm_eps = 0;
  LatentRope rope;
};
void latent_inputs(const LatentInputsParams& params, Stream& stream);

/// An indexer's: y = rotated LayerNorm of a key, and queries rotated in place. The channels that
/// rotate come first.
struct IndexInputsParams {
  const float* k = nullptr;       ///< [m, head_dim], row stride k_stride
  const float* weight = nullptr;  ///< [head_dim]
  const float* bias = nullptr;    ///< [head_dim]
  uint16_t* y = nullptr;          ///< [m, head_dim]
  uint16_t* q = nullptr;          ///< [m, num_heads, head_dim], row stride q_stride
  int64_t m = 0;
  int64_t k_stride = 0;
  int64_t q_stride = 0;
  int32_t num_heads = 0;
  int32_t head_dim = 0;  ///< a multiple of 8, at most 1024
  float norm_eps = 0;
  LatentRope rope;
};
void index_inputs(const IndexInputsParams& params, Stream& stream);

}  // namespace foveal::kernels::cuda

#pragma once

#include "foveal/kernels_mla.h"

// Latent attention over rows of other sizes than foveal/kernels_mla.h has: what small models come
// with. bf16 caches, no tensor cores. `stream` is a cudaStream_t of the current device.

namespace foveal::kernels::cuda {

/// Channels of a cached row.
struct LatentDims {
  int32_t rank = FOVEAL_MLA_VALUE_DIM;                        ///< of the latent, which is the value
  int32_t rope = FOVEAL_MLA_HEAD_DIM - FOVEAL_MLA_VALUE_DIM;  ///< that rotate

  int32_t width() const { return rank + rope; }
  /// Whether these are the sizes of foveal/kernels_mla.h.
  bool common() const { return *this == LatentDims{}; }
  bool operator==(const LatentDims&) const = default;
};

/// Throws kUnsupported for rows that no kernel serves.
void check_latent_dims(const LatentDims& dims);

/// mla_attention with `dims` for 576 and 512. Neither `splits` nor `lse` nor a workspace.
void latent_any_attention(const foveal_mla_params& params, const LatentDims& dims, void* stream);
/// mla_store with `dims`.
void latent_any_store(const foveal_mla_store_params& params, const LatentDims& dims, void* stream);

}  // namespace foveal::kernels::cuda

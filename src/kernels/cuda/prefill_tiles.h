#pragma once

#include "kernels/cuda/sm90/prefill_args.h"

namespace foveal::kernels::cuda {

/// Keys of a tile of prefill, which Skip Softmax keeps or drops together; `e4m3`: of queries, keys
/// and values in it.
constexpr int32_t prefill_tile_keys(int32_t head_dim, bool e4m3) {
  return e4m3 ? foveal::cuda::e4m3_keys(head_dim) : foveal::cuda::prefill_keys(head_dim);
}
/// The same where prompts of latent attention are read in the form of heads.
constexpr int32_t prefill_heads_tile_keys() {
  return foveal::cuda::prefill_keys(foveal::cuda::kHeadFormDim, foveal::cuda::kHeadFormValues);
}

}  // namespace foveal::kernels::cuda

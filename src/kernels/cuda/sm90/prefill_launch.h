#pragma once

#include <cuda.h>
#include <cuda_runtime_api.h>

#include "kernels/cuda/sm90/prefill_args.h"

namespace foveal::cuda {

/// Which compiled kernel serves a call.
struct PrefillChoice {
  bool f16 = false;  ///< else bf16
  int32_t cluster = 1;
  bool skip = false;
  bool count = false;  ///< with skip only
};

struct PrefillMaps {
  CUtensorMap q, k, v;
};

/// One function a head dim, each in a file of its own, so that they compile side by side.
using PrefillLaunch = cudaError_t (*)(const PrefillChoice& choice, const PrefillArgs& args,
                                      const PrefillMaps& maps, int32_t num_sms,
                                      cudaStream_t stream);
cudaError_t prefill_d64_launch(const PrefillChoice&, const PrefillArgs&, const PrefillMaps&,
                               int32_t, cudaStream_t);
cudaError_t prefill_d96_launch(const PrefillChoice&, const PrefillArgs&, const PrefillMaps&,
                               int32_t, cudaStream_t);
cudaError_t prefill_d128_launch(const PrefillChoice&, const PrefillArgs&, const PrefillMaps&,
                                int32_t, cudaStream_t);
cudaError_t prefill_d192_launch(const PrefillChoice&, const PrefillArgs&, const PrefillMaps&,
                                int32_t, cudaStream_t);
cudaError_t prefill_d256_launch(const PrefillChoice&, const PrefillArgs&, const PrefillMaps&,
                                int32_t, cudaStream_t);
cudaError_t prefill_e4m3_d64_launch(const PrefillChoice&, const PrefillArgs&, const PrefillMaps&,
                                    int32_t, cudaStream_t);
cudaError_t prefill_e4m3_d96_launch(const PrefillChoice&, const PrefillArgs&, const PrefillMaps&,
                                    int32_t, cudaStream_t);
cudaError_t prefill_e4m3_d128_launch(const PrefillChoice&, const PrefillArgs&, const PrefillMaps&,
                                     int32_t, cudaStream_t);
cudaError_t prefill_e4m3_d192_launch(const PrefillChoice&, const PrefillArgs&, const PrefillMaps&,
                                     int32_t, cudaStream_t);
cudaError_t prefill_e4m3_d256_launch(const PrefillChoice&, const PrefillArgs&, const PrefillMaps&,
                                     int32_t, cudaStream_t);

/// Latent attention in the form of heads: `maps.k` has a head's own channels of keys and then its
/// values, `maps.v` the channels of keys that all heads share.
cudaError_t prefill_heads_launch(const PrefillArgs&, const PrefillMaps&, int32_t, cudaStream_t);

}  // namespace foveal::cuda

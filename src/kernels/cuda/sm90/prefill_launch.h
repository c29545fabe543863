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
  bool count = false;   ///< with skip only
  bool listed = false;  ///< over the tiles of args.kept, without skip
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

/// Dense over lists of tiles (ListedTraits).
cudaError_t prefill_listed_d64_launch(const PrefillChoice&, const PrefillArgs&, const PrefillMaps&,
                                      int32_t, cudaStream_t);
cudaError_t prefill_listed_d96_launch(const PrefillChoice&, const PrefillArgs&, const PrefillMaps&,
                                      int32_t, cudaStream_t);
cudaError_t prefill_listed_d128_launch(const PrefillChoice&, const PrefillArgs&, const PrefillMaps&,
                                       int32_t, cudaStream_t);
cudaError_t prefill_listed_d192_launch(const PrefillChoice&, const PrefillArgs&, const PrefillMaps&,
                                       int32_t, cudaStream_t);
cudaError_t prefill_listed_d256_launch(const PrefillChoice&, const PrefillArgs&, const PrefillMaps&,
                                       int32_t, cudaStream_t);

/// Votes of Skip Softmax by scores in int8; of `maps` only the queries'.
PrefillLaunch find_prefill_vote_launch(int32_t head_dim, bool f16);

/// Latent attention in the form of heads: `maps.k` has a head's own channels of keys and then its
/// values, `maps.v` the channels of keys that all heads share.
cudaError_t prefill_heads_launch(const PrefillArgs&, const PrefillMaps&, int32_t, cudaStream_t);

}  // namespace foveal::cuda

#pragma once

#include "kernels/cuda/sm90/prefill_launch.cuh"

#include "kernels/cuda/sm90/prefill_listed.cuh"

namespace foveal::cuda {

template <int kHeadDim>
cudaError_t prefill_listed_head_dim(const PrefillChoice& choice, const PrefillArgs& args,
                                    const PrefillMaps& maps, int32_t num_sms, cudaStream_t stream) {
  return choice.f16 ? prefill_launch<ListedTraits<F16, kHeadDim>>(args, maps, num_sms, stream)
                    : prefill_launch<ListedTraits<Bf16, kHeadDim>>(args, maps, num_sms, stream);
}

}  // namespace foveal::cuda

#pragma once

#include "kernels/cuda/sm90/prefill_launch.cuh"

#include "kernels/cuda/sm90/prefill_e4m3_consumer.cuh"

namespace foveal::cuda {

template <int kHeadDim, int kCluster>
cudaError_t prefill_e4m3_mode(const PrefillChoice& choice, const PrefillArgs& args,
                              const PrefillMaps& maps, int32_t num_sms, cudaStream_t stream) {
  if (!choice.skip) {
    return prefill_launch<E4m3Traits<kHeadDim, kCluster, false, false>>(args, maps, num_sms,
                                                                        stream);
  }
  if (!choice.count) {
    return prefill_launch<E4m3Traits<kHeadDim, kCluster, true, false>>(args, maps, num_sms, stream);
  }
  return prefill_launch<E4m3Traits<kHeadDim, kCluster, true, true>>(args, maps, num_sms, stream);
}

template <int kHeadDim>
cudaError_t prefill_e4m3_head_dim(const PrefillChoice& choice, const PrefillArgs& args,
                                  const PrefillMaps& maps, int32_t num_sms, cudaStream_t stream) {
  return choice.cluster == 2 ? prefill_e4m3_mode<kHeadDim, 2>(choice, args, maps, num_sms, stream)
                             : prefill_e4m3_mode<kHeadDim, 1>(choice, args, maps, num_sms, stream);
}

}  // namespace foveal::cuda

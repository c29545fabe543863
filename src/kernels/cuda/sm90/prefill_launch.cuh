#pragma once

#include "kernels/cuda/sm90/prefill_kernel.cuh"
#include "kernels/cuda/sm90/prefill_launch.h"

namespace foveal::cuda {

template <class Traits>
cudaError_t prefill_launch(const PrefillArgs& args, const PrefillMaps& maps, int32_t num_sms,
                           cudaStream_t stream) {
  auto* kernel = prefill_kernel<Traits>;
  constexpr int kBytes = sizeof(PrefillShared<Traits>);
  static_assert(kBytes <= 227 * 1024);
  cudaError_t status =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes);
  if (status != cudaSuccess) return status;
  cudaLaunchAttribute attribute;
  attribute.id = cudaLaunchAttributeClusterDimension;
  attribute.val.clusterDim = {Traits::kCluster, 1, 1};
  cudaLaunchConfig_t config{};
  config.gridDim = static_cast<unsigned>(num_sms / Traits::kCluster * Traits::kCluster);
  config.blockDim = Traits::kThreads;
  config.dynamicSmemBytes = kBytes;
  config.stream = stream;
  config.attrs = &attribute;
  config.numAttrs = 1;
  return cudaLaunchKernelEx(&config, kernel, args, maps.q, maps.k, maps.v);
}

template <class Element, int kHeadDim, int kCluster>
cudaError_t prefill_mode(const PrefillChoice& choice, const PrefillArgs& args,
                         const PrefillMaps& maps, int32_t num_sms, cudaStream_t stream) {
  if (!choice.skip) {
    return prefill_launch<PrefillTraits<Element, kHeadDim, kCluster, false, false>>(
        args, maps, num_sms, stream);
  }
  if (!choice.count) {
    return prefill_launch<PrefillTraits<Element, kHeadDim, kCluster, true, false>>(args, maps,
                                                                                   num_sms, stream);
  }
  return prefill_launch<PrefillTraits<Element, kHeadDim, kCluster, true, true>>(args, maps, num_sms,
                                                                                stream);
}

template <int kHeadDim>
cudaError_t prefill_head_dim(const PrefillChoice& choice, const PrefillArgs& args,
                             const PrefillMaps& maps, int32_t num_sms, cudaStream_t stream) {
  if (choice.f16) {
    return choice.cluster == 2
               ? prefill_mode<F16, kHeadDim, 2>(choice, args, maps, num_sms, stream)
               : prefill_mode<F16, kHeadDim, 1>(choice, args, maps, num_sms, stream);
  }
  return choice.cluster == 2 ? prefill_mode<Bf16, kHeadDim, 2>(choice, args, maps, num_sms, stream)
                             : prefill_mode<Bf16, kHeadDim, 1>(choice, args, maps, num_sms, stream);
}

}  // namespace foveal::cuda

#include "kernels/cuda/sm90/prefill_launch.cuh"

namespace foveal::cuda {

cudaError_t prefill_heads_launch(const PrefillArgs& args, const PrefillMaps& maps, int32_t num_sms,
                                 cudaStream_t stream) {
  return prefill_launch<
      PrefillTraits<Bf16, kHeadFormDim, 1, false, false, kHeadFormValues, kHeadFormOwn>>(
      args, maps, num_sms, stream);
}

}  // namespace foveal::cuda

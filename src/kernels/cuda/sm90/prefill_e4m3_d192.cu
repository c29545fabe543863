#include "kernels/cuda/sm90/prefill_e4m3_launch.cuh"

namespace foveal::cuda {

cudaError_t prefill_e4m3_d192_launch(const PrefillChoice& choice, const PrefillArgs& args,
                                     const PrefillMaps& maps, int32_t num_sms,
                                     cudaStream_t stream) {
  return prefill_e4m3_head_dim<192>(choice, args, maps, num_sms, stream);
}

}  // namespace foveal::cuda

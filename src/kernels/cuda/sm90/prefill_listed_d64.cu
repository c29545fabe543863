#include "kernels/cuda/sm90/prefill_listed_launch.cuh"

namespace foveal::cuda {

cudaError_t prefill_listed_d64_launch(const PrefillChoice& choice, const PrefillArgs& args,
                                      const PrefillMaps& maps, int32_t num_sms,
                                      cudaStream_t stream) {
  return prefill_listed_head_dim<64>(choice, args, maps, num_sms, stream);
}

}  // namespace foveal::cuda

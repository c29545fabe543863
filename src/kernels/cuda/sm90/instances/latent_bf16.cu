#include "kernels/cuda/sm90/latent_kernel.cuh"

namespace foveal::cuda {

cudaError_t latent_launch_bf16(const LatentArgs& args, int32_t num_sms, cudaStream_t stream) {
  return latent_launch<LatentProducerBf16>(args, num_sms, stream);
}

}  // namespace foveal::cuda

#include "kernels/cuda/sm90/latent_cluster.cuh"

namespace foveal::cuda {

cudaError_t latent_launch_cluster_bf16(const LatentArgs& args, cudaStream_t stream) {
  return latent_launch_cluster<LatentClusterBf16>(args, stream);
}
cudaError_t latent_launch_cluster_e4m3(const LatentArgs& args, cudaStream_t stream) {
  return latent_launch_cluster<LatentClusterE4m3>(args, stream);
}

}  // namespace foveal::cuda

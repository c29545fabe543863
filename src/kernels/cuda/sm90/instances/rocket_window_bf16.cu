#include "kernels/cuda/sm90/rocket_window_instances.cuh"

namespace foveal::kernels::cuda {

WindowKernels rocket_window_kernels_bf16(int32_t head_dim) {
  return rocket_window_kernels<foveal::cuda::Bf16>(head_dim);
}

}  // namespace foveal::kernels::cuda

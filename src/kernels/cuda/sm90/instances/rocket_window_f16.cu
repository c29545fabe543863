#include "kernels/cuda/sm90/rocket_window_instances.cuh"

namespace foveal::kernels::cuda {

WindowKernels rocket_window_kernels_f16(int32_t head_dim) {
  return rocket_window_kernels<foveal::cuda::F16>(head_dim);
}

}  // namespace foveal::kernels::cuda

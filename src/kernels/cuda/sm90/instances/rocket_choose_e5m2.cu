#include "kernels/cuda/sm90/rocket_choose_instances.cuh"

namespace foveal::kernels::cuda {

const void* rocket_choose_kernel_e5m2(const ChooseShape& shape) {
  return rocket_choose_instance<E5m2Bounds>(shape);
}

}  // namespace foveal::kernels::cuda

#include "kernels/cuda/sm90/rocket_choose_instances.cuh"

namespace foveal::kernels::cuda {

const void* rocket_choose_kernel_bf16(const ChooseShape& shape) {
  return rocket_choose_instance<Bf16Bounds>(shape);
}

}  // namespace foveal::kernels::cuda

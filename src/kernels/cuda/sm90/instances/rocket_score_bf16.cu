#include "kernels/cuda/sm90/rocket_instances.cuh"

namespace foveal::kernels::cuda {

const void* rocket_score_kernel_bf16(const ScoreShape& shape) {
  return rocket_score_instance<Bf16Bounds>(shape);
}

}  // namespace foveal::kernels::cuda

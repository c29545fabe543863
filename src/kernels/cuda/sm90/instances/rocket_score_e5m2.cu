#include "kernels/cuda/sm90/rocket_instances.cuh"

namespace foveal::kernels::cuda {

const void* rocket_score_kernel_e5m2(const ScoreShape& shape) {
  return rocket_score_instance<E5m2Bounds>(shape);
}

}  // namespace foveal::kernels::cuda

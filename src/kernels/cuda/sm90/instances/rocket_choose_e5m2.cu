#include "kernels/cuda/sm90/rocket_choose_instances.cuh"

namespace foveal::kernels::cuda {

ScoreKernels rocket_score_kernels_e5m2(const ScoreShape& shape) {
  return rocket_score_instance<E5m2Bounds>(shape);
}

}  // namespace foveal::kernels::cuda

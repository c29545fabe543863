#include "kernels/cuda/sm90/rocket_choose_instances.cuh"

namespace foveal::kernels::cuda {

ScoreKernels rocket_score_kernels_bf16(const ScoreShape& shape) {
  return rocket_score_instance<Bf16Bounds>(shape);
}

}  // namespace foveal::kernels::cuda

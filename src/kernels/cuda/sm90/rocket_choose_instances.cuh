#pragma once

#include "kernels/cuda/rocket_launch.h"
#include "kernels/cuda/sm90/rocket_choose.cuh"

namespace foveal::kernels::cuda {

template <class Bound, int kHeadDim, int kHeadBlocks>
ScoreKernels rocket_score_instance() {
  return {reinterpret_cast<const void*>(&rocket_choose_kernel<Bound, kHeadDim, kHeadBlocks>),
          reinterpret_cast<const void*>(&rocket_score_kernel<Bound, kHeadDim, kHeadBlocks>)};
}

template <class Bound, int kHeadDim>
ScoreKernels rocket_score_instance(int32_t head_blocks) {
  if (head_blocks == 1) return rocket_score_instance<Bound, kHeadDim, 1>();
  if constexpr (max_pass_heads(kHeadDim) > 8) return rocket_score_instance<Bound, kHeadDim, 2>();
  return {};
}

template <class Bound>
ScoreKernels rocket_score_instance(const ScoreShape& shape) {
  switch (shape.head_dim) {
    case 64:
      return rocket_score_instance<Bound, 64>(shape.head_blocks);
    case 96:
      return rocket_score_instance<Bound, 96>(shape.head_blocks);
    case 128:
      return rocket_score_instance<Bound, 128>(shape.head_blocks);
    case 192:
      return rocket_score_instance<Bound, 192>(shape.head_blocks);
    case 256:
      return rocket_score_instance<Bound, 256>(shape.head_blocks);
    default:
      return {};
  }
}

}  // namespace foveal::kernels::cuda

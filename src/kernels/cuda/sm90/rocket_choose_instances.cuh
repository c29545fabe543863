#pragma once

#include "kernels/cuda/rocket_launch.h"
#include "kernels/cuda/sm90/rocket_choose.cuh"

namespace foveal::kernels::cuda {

template <class Bound, int kHeadDim>
const void* rocket_choose_instance(int32_t head_blocks) {
  if (head_blocks == 1) {
    return reinterpret_cast<const void*>(&rocket_choose_kernel<Bound, kHeadDim, 1>);
  }
  if constexpr (max_pass_heads(kHeadDim) > 8) {
    return reinterpret_cast<const void*>(&rocket_choose_kernel<Bound, kHeadDim, 2>);
  }
  return nullptr;
}

template <class Bound>
const void* rocket_choose_instance(const ChooseShape& shape) {
  switch (shape.head_dim) {
    case 64:
      return rocket_choose_instance<Bound, 64>(shape.head_blocks);
    case 96:
      return rocket_choose_instance<Bound, 96>(shape.head_blocks);
    case 128:
      return rocket_choose_instance<Bound, 128>(shape.head_blocks);
    case 192:
      return rocket_choose_instance<Bound, 192>(shape.head_blocks);
    case 256:
      return rocket_choose_instance<Bound, 256>(shape.head_blocks);
    default:
      return nullptr;
  }
}

}  // namespace foveal::kernels::cuda

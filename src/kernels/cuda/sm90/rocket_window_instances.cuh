#pragma once

#include "kernels/cuda/rocket_launch.h"
#include "kernels/cuda/sm90/rocket_window.cuh"

namespace foveal::kernels::cuda {

template <class Kv, int kHeadDim>
WindowKernels rocket_window_kernels() {
  using Tile = WindowTile<Kv, kHeadDim>;
  return {rocket_window_instance<Kv, kHeadDim>(WindowPass::kRows),
          rocket_window_instance<Kv, kHeadDim>(WindowPass::kColumns), Tile::kSharedBytes};
}

template <class Kv>
WindowKernels rocket_window_kernels(int32_t head_dim) {
  switch (head_dim) {
    case 64:
      return rocket_window_kernels<Kv, 64>();
    case 96:
      return rocket_window_kernels<Kv, 96>();
    case 128:
      return rocket_window_kernels<Kv, 128>();
    case 192:
      return rocket_window_kernels<Kv, 192>();
    case 256:
      return rocket_window_kernels<Kv, 256>();
    default:
      return {};
  }
}

}  // namespace foveal::kernels::cuda

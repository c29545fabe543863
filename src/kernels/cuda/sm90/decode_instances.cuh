#pragma once

#include "kernels/cuda/decode_launch.h"
#include "kernels/cuda/sm90/decode_dense.cuh"
#include "kernels/cuda/sm90/decode_vote.cuh"

namespace foveal::kernels::cuda {

template <class Kv, int kHeadDim, int kHeadBlocks>
const void* decode_instance(bool vote) {
  if (vote) return reinterpret_cast<const void*>(&decode_vote_kernel<Kv, kHeadDim, kHeadBlocks>);
  return reinterpret_cast<const void*>(&decode_dense_kernel<Kv, kHeadDim, kHeadBlocks>);
}

template <class Kv, int kHeadDim>
const void* decode_instance(int32_t head_blocks, bool vote) {
  if (head_blocks == 1) return decode_instance<Kv, kHeadDim, 1>(vote);
  if constexpr (max_pass_heads(kHeadDim) > 8) return decode_instance<Kv, kHeadDim, 2>(vote);
  return nullptr;
}

template <class Kv>
const void* decode_instance(const DecodeShape& shape) {
  switch (shape.head_dim) {
    case 64:
      return decode_instance<Kv, 64>(shape.head_blocks, shape.vote);
    case 96:
      return decode_instance<Kv, 96>(shape.head_blocks, shape.vote);
    case 128:
      return decode_instance<Kv, 128>(shape.head_blocks, shape.vote);
    case 192:
      return decode_instance<Kv, 192>(shape.head_blocks, shape.vote);
    case 256:
      return decode_instance<Kv, 256>(shape.head_blocks, shape.vote);
    default:
      return nullptr;
  }
}

}  // namespace foveal::kernels::cuda

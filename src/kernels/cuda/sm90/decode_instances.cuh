#pragma once

#include "kernels/cuda/decode_launch.h"
#include "kernels/cuda/sm90/decode_dense.cuh"
#include "kernels/cuda/sm90/decode_listed.cuh"
#include "kernels/cuda/sm90/decode_vote.cuh"

namespace foveal::kernels::cuda {

/// Which kernel a file instantiates: over all pages (dense or voting), or over listed ones.
struct AllPages {
  template <class Kv, int kHeadDim, int kHeadBlocks>
  static const void* kernel(bool vote) {
    if (vote) return reinterpret_cast<const void*>(&decode_vote_kernel<Kv, kHeadDim, kHeadBlocks>);
    return reinterpret_cast<const void*>(&decode_dense_kernel<Kv, kHeadDim, kHeadBlocks>);
  }
};
struct ListedPages {
  template <class Kv, int kHeadDim, int kHeadBlocks>
  static const void* kernel(bool vote) {
    if (vote) return nullptr;
    return reinterpret_cast<const void*>(
        &decode_dense_kernel<Kv, kHeadDim, kHeadBlocks, ListedWindow>);
  }
};

template <class Which, class Kv, int kHeadDim>
const void* decode_instance(int32_t head_blocks, bool vote) {
  if (head_blocks == 1) return Which::template kernel<Kv, kHeadDim, 1>(vote);
  if constexpr (max_pass_heads(kHeadDim) > 8) return Which::template kernel<Kv, kHeadDim, 2>(vote);
  return nullptr;
}

template <class Which, class Kv>
const void* decode_instance(const DecodeShape& shape) {
  switch (shape.head_dim) {
    case 64:
      return decode_instance<Which, Kv, 64>(shape.head_blocks, shape.vote);
    case 96:
      return decode_instance<Which, Kv, 96>(shape.head_blocks, shape.vote);
    case 128:
      return decode_instance<Which, Kv, 128>(shape.head_blocks, shape.vote);
    case 192:
      return decode_instance<Which, Kv, 192>(shape.head_blocks, shape.vote);
    case 256:
      return decode_instance<Which, Kv, 256>(shape.head_blocks, shape.vote);
    default:
      return nullptr;
  }
}

}  // namespace foveal::kernels::cuda

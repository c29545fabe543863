#pragma once

#include <cstdint>

namespace foveal::kernels::cuda {

/// Philox4x32-10, as sampler/philox.h has it for the host.
__device__ inline uint4 philox4x32(uint4 counter, uint2 key) {
#pragma unroll
  for (int round = 0; round < 10; ++round) {
    const uint64_t left = uint64_t{0xd2511f53U} * counter.x;
    const uint64_t right = uint64_t{0xcd9e8d57U} * counter.z;
    counter = {static_cast<uint32_t>(right >> 32) ^ counter.y ^ key.x, static_cast<uint32_t>(right),
               static_cast<uint32_t>(left >> 32) ^ counter.w ^ key.y, static_cast<uint32_t>(left)};
    key.x += 0x9e3779b9U;
    key.y += 0xbb67ae85U;
  }
  return counter;
}

}  // namespace foveal::kernels::cuda

#pragma once

#include <cstdint>

namespace foveal::cuda {

/// Counts up and back to 0 past `limit`; returns the value before. What this CTA's threads wrote
/// before their last barrier is visible to whoever sees the new value, and the other way round.
__device__ inline uint32_t atomic_inc_acq_rel(uint32_t* counter, uint32_t limit) {
  uint32_t before;
  asm volatile("atom.acq_rel.gpu.global.inc.u32 %0, [%1], %2;"
               : "=r"(before)
               : "l"(__cvta_generic_to_global(counter)), "r"(limit)
               : "memory");
  return before;
}

}  // namespace foveal::cuda

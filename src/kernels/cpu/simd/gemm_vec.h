#pragma once

// Register tiles of the GEMM kernels at each instruction-set level, and the step their reductions
// take.

#include <cstdint>

#include "kernels/cpu/simd/vec.h"

namespace foveal::kernels::cpu::FOVEAL_ISA_NS {

#if FOVEAL_ISA_LEVEL >= 2
constexpr int kTileRows = 12;  // 24 accumulators, 2 vectors of weights, 1 broadcast: 27 of 32
constexpr int kDotRows = 4;    // 16 accumulators, 4 vectors of weights, 1 of x
#elif FOVEAL_ISA_LEVEL == 1
constexpr int kTileRows = 6;  // 12 accumulators of 16 registers
constexpr int kDotRows = 2;
#else
constexpr int kTileRows = 4;
constexpr int kDotRows = 2;
#endif
constexpr int kTileCols = 2 * kLanes;

// A prefill tile works on "steps" of the reduction: one element, or a pair in bf16. Either is one
// 32-bit word of a packed operand.
#if FOVEAL_ISA_LEVEL >= 3
constexpr int kStep = 2;
using Step = Pairs;
FOVEAL_SIMD Step load_step(const uint32_t* p) { return load_pairs(p); }
FOVEAL_SIMD Step broadcast_step(const uint32_t* p) { return broadcast_pair(p); }
FOVEAL_SIMD F32 step_add(F32 acc, Step w, Step x) { return dot(acc, w, x); }
/// kLanes words from 2 * kLanes floats in their order, rounded to nearest even.
FOVEAL_SIMD Step to_steps(const float* src) {
  return {(__m512i)_mm512_cvtne2ps_pbh(load(src + kLanes).v, load(src).v)};
}
#else
constexpr int kStep = 1;
using Step = F32;
FOVEAL_SIMD Step load_step(const uint32_t* p) { return load(reinterpret_cast<const float*>(p)); }
FOVEAL_SIMD Step broadcast_step(const uint32_t* p) {
  float x;
  __builtin_memcpy(&x, p, sizeof(x));
  return set1(x);
}
FOVEAL_SIMD F32 step_add(F32 acc, Step w, Step x) { return fma(w, x, acc); }
FOVEAL_SIMD Step to_steps(const float* src) { return load(src); }
#endif
FOVEAL_SIMD void store_steps(uint32_t* p, Step steps) {
  __builtin_memcpy(p, &steps, sizeof(steps));
}

/// Weights are read once, so only fetching ahead keeps memory busy: the arithmetic between two
/// lines leaves the out-of-order window too short to, and rows of a few hundred bytes end before
/// hardware streams start. 16 KiB took one core from 14 to 46 GB/s; 8 KiB gives 34, 32 KiB no more.
constexpr int64_t kFetchAhead = 16 * 1024;

/// Asks for the `bytes` from `ahead` past `p`, mapped or not.
FOVEAL_SIMD void fetch(const void* p, int64_t ahead, int64_t bytes) {
  const auto address = reinterpret_cast<uintptr_t>(p) + static_cast<uintptr_t>(ahead);
  for (int64_t at = 0; at < bytes; at += 64) {
    __builtin_prefetch(reinterpret_cast<const void*>(address + static_cast<uintptr_t>(at)));
  }
}
FOVEAL_SIMD void fetch_ahead(const uint8_t* p, int64_t bytes) { fetch(p, kFetchAhead, bytes); }

/// Exact.
FOVEAL_SIMD float half_to_float(uint16_t bits) {
#if FOVEAL_ISA_LEVEL >= 1
  return _cvtsh_ss(bits);
#else
  float lane[kLanes];
  store(lane, load_f16_n(&bits, 1));
  return lane[0];
#endif
}

}  // namespace foveal::kernels::cpu::FOVEAL_ISA_NS

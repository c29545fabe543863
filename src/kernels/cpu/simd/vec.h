#pragma once

/// Vectors of float32 of the instruction set this file is compiled for (FOVEAL_ISA_LEVEL, see
/// kernels/cpu/isa.h). Include it only from a `_cpu.cc` of a foveal_isa_library: everything lives
/// in the level's own namespace and is always inlined, so no level's code can be linked into
/// another's.
///
///     F32      kLanes floats          load store load_n store_n set1 + - * / fma fnma min max ...
///     Mask     kLanes truth values    lt le gt eq mask_first select any all
///     Pairs    kLanes pairs of bf16   load_pairs set1_pair pack_pairs dot widen_even widen_odd
///     F32      from and to storage    load_bf16 store_bf16 load_f16 store_f16 (and _n)
///     math     vec_math.h             exp exp2 tanh erf sigmoid
///
/// `fma` is fused at every level but the portable one. Reductions halve the vector, in one fixed
/// order a level. Conversions round to nearest even and equal base/half.h bit for bit (a NaN stays
/// a NaN). `min` and `max` answer their second argument when either is NaN.

#ifndef FOVEAL_ISA_NS
#error "vec.h is for sources of a foveal_isa_library"
#endif

#define FOVEAL_SIMD static inline __attribute__((always_inline))

namespace foveal::kernels::cpu::FOVEAL_ISA_NS {

inline constexpr int kCacheLine = 64;
/// Asks for the line at `p`, which need not be readable.
FOVEAL_SIMD void prefetch(const void* p) { __builtin_prefetch(p); }
/// The same into the second level, for what is used so late that the first would have lost it.
FOVEAL_SIMD void prefetch_far(const void* p) { __builtin_prefetch(p, 0, 2); }

}  // namespace foveal::kernels::cpu::FOVEAL_ISA_NS

#if FOVEAL_ISA_LEVEL >= 2
#include "kernels/cpu/simd/vec_avx512.h"
#elif FOVEAL_ISA_LEVEL == 1
#include "kernels/cpu/simd/vec_avx2.h"
#else
#include "kernels/cpu/simd/vec_portable.h"
#endif
#include "kernels/cpu/simd/vec_math.h"

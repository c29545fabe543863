#pragma once

#include <cstddef>

#include "kernels/cpu/attention_item.h"
#include "kernels/cpu/simd/vec.h"
#include "kernels/paged_attention.h"

// How decode attention reads a KV format: a Raw is one vector of cells of K (tokens in the lanes)
// or V (channels in the lanes), a Coef the query's or the weight's factor for it.

namespace foveal::kernels::cpu::FOVEAL_ISA_NS {

/// bf16 products of pairs; weights and queries rounded to bf16.
struct Bf16Dot {
  static constexpr int kPair = 2;
  static constexpr int kCellBytes = 4;
  static constexpr int kCoefs = 1;
  static constexpr bool kRounded = true;
  using Raw = Pairs;
  using Coef = Pairs;
  FOVEAL_SIMD Raw load(const std::byte* p) { return load_pairs(p); }
  FOVEAL_SIMD Raw load_n(const std::byte* p, int n) { return load_pairs_n(p, n); }
  FOVEAL_SIMD Coef coef(const float* p) { return broadcast_pair(p); }
  FOVEAL_SIMD F32 mac(F32 acc, Raw a, Coef b) { return dot(acc, a, b); }
#if FOVEAL_ISA_LEVEL >= 3
  /// exp2(s - top) of one key tile as consecutive bf16 at `out`; answers `sum` plus their sum.
  FOVEAL_SIMD F32 weigh(const float* s, F32 top, uint16_t* out, F32 sum) {
    static_assert(kKeyTile == 2 * kLanes);
    const F32 first = exp2_coarse(FOVEAL_ISA_NS::load(s) - top);
    const F32 second = exp2_coarse(FOVEAL_ISA_NS::load(s + kLanes) - top);
    const Pairs weights = pack_bf16(first, second);
    store_pairs(out, weights);
    return dot(sum, weights, set1_pair(0x3f803f80U));  // sums what is used
  }
#endif
  FOVEAL_SIMD void store_coef(float* p, float even, float odd) {
    const Pairs pair = pack_pairs(set1(even), set1(odd));
    __builtin_memcpy(p, &pair, sizeof(float));
  }
};

/// bf16 storage, float32 arithmetic.
struct Bf16Wide {
  static constexpr int kPair = 2;
  static constexpr int kCellBytes = 4;
  static constexpr int kCoefs = 2;
  static constexpr bool kRounded = false;
  struct Raw {
    F32 even;
    F32 odd;
  };
  using Coef = Raw;
  FOVEAL_SIMD Raw widen(Pairs a) { return {widen_even(a), widen_odd(a)}; }
  FOVEAL_SIMD Raw load(const std::byte* p) { return widen(load_pairs(p)); }
  FOVEAL_SIMD Raw load_n(const std::byte* p, int n) { return widen(load_pairs_n(p, n)); }
  FOVEAL_SIMD Coef coef(const float* p) { return {set1(p[0]), set1(p[1])}; }
  FOVEAL_SIMD F32 mac(F32 acc, Raw a, Coef b) {
    return fma(a.odd, b.odd, fma(a.even, b.even, acc));
  }
  FOVEAL_SIMD void store_coef(float* p, float even, float odd) {
    p[0] = even;
    p[1] = odd;
  }
};

/// Cells that are float32 once loaded, one a lane.
struct FloatCells {
  static constexpr int kPair = 1;
  static constexpr int kCoefs = 1;
  static constexpr bool kRounded = false;
  using Raw = F32;
  using Coef = F32;
  FOVEAL_SIMD Coef coef(const float* p) { return set1(*p); }
  FOVEAL_SIMD F32 mac(F32 acc, Raw a, Coef b) { return fma(a, b, acc); }
};

struct F16Wide : FloatCells {
  static constexpr int kCellBytes = 2;
  FOVEAL_SIMD Raw load(const std::byte* p) {
    return load_f16(reinterpret_cast<const uint16_t*>(p));
  }
  FOVEAL_SIMD Raw load_n(const std::byte* p, int n) {
    return load_f16_n(reinterpret_cast<const uint16_t*>(p), n);
  }
};

struct F32Plain : FloatCells {
  static constexpr int kCellBytes = 4;
  FOVEAL_SIMD Raw load(const std::byte* p) {
    return FOVEAL_ISA_NS::load(reinterpret_cast<const float*>(p));
  }
  FOVEAL_SIMD Raw load_n(const std::byte* p, int n) {
    return FOVEAL_ISA_NS::load_n(reinterpret_cast<const float*>(p), n);
  }
};

}  // namespace foveal::kernels::cpu::FOVEAL_ISA_NS

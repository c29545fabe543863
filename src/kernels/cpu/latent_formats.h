#pragma once

#include <cstddef>

#include "kernels/cpu/simd/vec.h"

// How latent attention reads a row-major cache: a Cell is kStep channels of a key, which scores
// multiply with as many Query elements.

namespace foveal::kernels::cpu::FOVEAL_ISA_NS {

/// Whole vectors of float32, whatever the row is stored as.
template <class Load>
struct LatentWide {
  static constexpr int kStep = kLanes;
  static constexpr bool kRounded = false;
  using Query = float;
  using Cell = F32;
  FOVEAL_SIMD Cell load(const std::byte* row, int ch) { return Load::all(row, ch); }
  FOVEAL_SIMD Cell load_n(const std::byte* row, int ch, int n) { return Load::some(row, ch, n); }
  FOVEAL_SIMD Cell query(const Query* q) { return FOVEAL_ISA_NS::load(q); }
  FOVEAL_SIMD void open(const float* q, float scale, int n, Query* out) {
    store(out, FOVEAL_ISA_NS::load_n(q, n) * set1(scale));
  }
  FOVEAL_SIMD F32 mac(F32 acc, Cell a, Cell b) { return fma(a, b, acc); }
};

struct LoadBf16 {
  FOVEAL_SIMD F32 all(const std::byte* row, int ch) {
    return load_bf16(reinterpret_cast<const uint16_t*>(row) + ch);
  }
  FOVEAL_SIMD F32 some(const std::byte* row, int ch, int n) {
    return load_bf16_n(reinterpret_cast<const uint16_t*>(row) + ch, n);
  }
};
struct LoadF16 {
  FOVEAL_SIMD F32 all(const std::byte* row, int ch) {
    return load_f16(reinterpret_cast<const uint16_t*>(row) + ch);
  }
  FOVEAL_SIMD F32 some(const std::byte* row, int ch, int n) {
    return load_f16_n(reinterpret_cast<const uint16_t*>(row) + ch, n);
  }
};
struct LoadF32 {
  FOVEAL_SIMD F32 all(const std::byte* row, int ch) {
    return load(reinterpret_cast<const float*>(row) + ch);
  }
  FOVEAL_SIMD F32 some(const std::byte* row, int ch, int n) {
    return load_n(reinterpret_cast<const float*>(row) + ch, n);
  }
};

#if FOVEAL_ISA_LEVEL >= 3
/// bf16 products of pairs: of channels in the scores, of keys in the values.
struct LatentDot {
  static constexpr int kStep = 2 * kLanes;
  static constexpr bool kRounded = true;
  using Query = uint16_t;
  using Cell = Pairs;
  FOVEAL_SIMD Cell load(const std::byte* row, int ch) { return load_pairs(row + 2 * ch); }
  FOVEAL_SIMD Cell load_n(const std::byte* row, int ch, int n) {
    return load_pairs_n(row + 2 * ch, n / 2);
  }
  FOVEAL_SIMD Cell query(const Query* q) { return load_pairs(q); }
  FOVEAL_SIMD void open(const float* q, float scale, int n, Query* out) {
    const int second = n > kLanes ? n - kLanes : 0;
    const F32 low = FOVEAL_ISA_NS::load_n(q, n - second) * set1(scale);
    const F32 high = FOVEAL_ISA_NS::load_n(q + kLanes, second) * set1(scale);
    store_pairs(out, pack_bf16(low, high));
  }
  FOVEAL_SIMD F32 mac(F32 acc, Cell a, Cell b) { return dot(acc, a, b); }
};
#endif

}  // namespace foveal::kernels::cpu::FOVEAL_ISA_NS

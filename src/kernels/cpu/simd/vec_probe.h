#pragma once

#include <cstdint>

namespace foveal::kernels::cpu {

/// vec.h of one level, for vec_test.cc: each applies a function to `n` elements (any n).
struct VecProbe {
  int lanes;
  void (*exp)(const float* x, float* y, int n);
  void (*exp2)(const float* x, float* y, int n);
  void (*tanh)(const float* x, float* y, int n);
  void (*erf)(const float* x, float* y, int n);
  void (*sigmoid)(const float* x, float* y, int n);
  void (*round)(const float* x, float* y, int n);
  void (*from_bf16)(const uint16_t* x, float* y, int n);
  void (*to_bf16)(const float* x, uint16_t* y, int n);
  void (*from_f16)(const uint16_t* x, float* y, int n);
  void (*to_f16)(const float* x, uint16_t* y, int n);
  void (*from_e4m3)(const uint8_t* x, float* y);  ///< all 256 values
  float (*sum)(const float* x);                   ///< of `lanes` elements
  float (*max)(const float* x);
  /// y = c + even * p + odd * q with (even, odd) and (p, q) packed as bf16 pairs, `lanes` elements
  void (*pair_dot)(const float* even, const float* odd, float p, float q, const float* c, float* y);
};

namespace portable {
extern const VecProbe kVecProbe;
}
namespace avx2 {
extern const VecProbe kVecProbe;
}
namespace avx512 {
extern const VecProbe kVecProbe;
}
namespace avx512bf16 {
extern const VecProbe kVecProbe;
}

}  // namespace foveal::kernels::cpu

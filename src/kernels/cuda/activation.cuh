#pragma once

#include "kernels/elementwise.h"

namespace foveal::kernels::cuda {

// exp and division by the fast intrinsics (2 ulp each): far below a rounding to bf16. A quotient by
// more than 2^126 comes out as 0, which it is.

__device__ __forceinline__ float silu(float x) { return __fdividef(x, 1.0F + __expf(-x)); }

__device__ __forceinline__ float gelu_tanh(float x) {
  const float inner = 0.7978845608F * (x + 0.044715F * x * x * x);
  return __fdividef(x, 1.0F + __expf(-2.0F * inner));  // (1 + tanh u) / 2 without its cancellation
}

__device__ __forceinline__ float gelu_erf(float x) { return 0.5F * x * erfcf(-0.7071067812F * x); }

__device__ __forceinline__ float activate(float x, Activation act) {
  if (act == Activation::kSilu) return silu(x);
  return act == Activation::kGeluTanh ? gelu_tanh(x) : gelu_erf(x);
}

}  // namespace foveal::kernels::cuda

#pragma once

#include <cstdint>
#include <span>

#include "base/tensor_view.h"
#include "device/stream.h"

namespace foveal::kernels {

/// The phase chooses the path, never the number of rows: so a row's result does not depend on what
/// shares its call.
enum class GemmPath : uint8_t {
  kPrefill,  ///< many rows: weights expanded tile by tile into cache; activations in bf16
  kDecode,   ///< few rows: weights read once, straight from their stored blocks
  kExact,    ///< weights and activations in float32, for parity with references; either phase
};

/// One weight of a call and where its product goes.
struct GemmOutput {
  WeightView weight;            ///< [n, k] as stored, any weight dtype
  const float* bias = nullptr;  ///< [n] or null
  float* y = nullptr;           ///< [m, n], row stride y_stride elements
  int64_t y_stride = 0;
  bool accumulate = false;  ///< y += x W^T + bias instead of y =
};

/// y_i = x W_i^T + bias_i for every output i.
struct GemmParams {
  const float* x = nullptr;  ///< [m, k], row stride x_stride elements
  int64_t m = 0;
  int64_t k = 0;
  int64_t x_stride = 0;
  std::span<const GemmOutput> outputs;  ///< share x; one fork-join region for all
  GemmPath path = GemmPath::kPrefill;
};

/// Every y[row][col] is reduced in one fixed order that depends on k, the weight's dtype, the path
/// and the machine's instruction set only: not on m, on the other outputs, or on thread count.
void gemm(const GemmParams& params, Stream& stream);

}  // namespace foveal::kernels

#pragma once

#include <vector>

#include "base/tensor_view.h"

namespace foveal::kernels::reference {

/// x W^T in double, and beside each value the sum of the terms' magnitudes, from which tolerances
/// are derived.
struct GemmResult {
  std::vector<double> value;  ///< [m, n]
  std::vector<double> norm;   ///< [m, n]: sum over k of |x| |w|
};

GemmResult gemm(const float* x, int64_t m, int64_t k, int64_t x_stride, const WeightView& weight);

}  // namespace foveal::kernels::reference

#pragma once

#include <vector>

#include "base/tensor_view.h"

namespace foveal::kernels::reference {

/// One row of a weight in float, element by element as the GGUF specification writes each format.
/// Scalar and slow; shares nothing with the kernels it checks.
std::vector<float> dequantize_row(const WeightView& weight, int64_t row);

}  // namespace foveal::kernels::reference

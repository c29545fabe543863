#pragma once

#include <string>
#include <vector>

#include "kernels/elementwise.h"
#include "model/checkpoint.h"

namespace foveal::model {

/// RMSNorm with its weight widened to float32.
struct Norm {
  std::vector<float> weight;
  float eps = 0;
  float offset = 0;

  /// Rows of weight.size() values, strides in elements. In place allowed.
  void run(const float* x, int64_t x_stride, float* y, int64_t y_stride, int64_t rows,
           Stream& stream) const {
    const auto n = static_cast<int64_t>(weight.size());
    kernels::rms_norm({.x = x,
                       .y = y,
                       .weight = weight.data(),
                       .m = rows,
                       .n = n,
                       .x_stride = x_stride,
                       .y_stride = y_stride,
                       .eps = eps,
                       .weight_offset = offset},
                      stream);
  }
};

}  // namespace foveal::model

#pragma once

#include <cstdint>
#include <vector>

#include "base/tensor_view.h"

namespace foveal::model {

/// What the values of an e4m3 matrix are multiplied by, and how many rows and columns share one.
struct Fp8Scales {
  std::vector<float> values;  ///< [row blocks, column blocks]
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t per_row = 0;  ///< column blocks
};

/// An e4m3 matrix as it is stored. Without data (a dummy checkpoint) there are no values of scales
/// either.
struct Fp8Matrix {
  WeightView weight;
  Fp8Scales scales;
};

}  // namespace foveal::model

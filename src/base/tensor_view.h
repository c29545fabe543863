#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "base/dtype.h"

namespace foveal {

/// A named, read-only tensor inside a mapped file. Shape is outermost first; data is contiguous.
struct TensorView {
  const std::byte* data = nullptr;
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;

  int64_t num_elements() const {
    int64_t n = 1;
    for (const int64_t extent : shape) n *= extent;
    return n;
  }
};

/// A weight matrix as stored, [rows, cols], row-major, quantised rows included. Does not own.
struct WeightView {
  const std::byte* data = nullptr;
  DType dtype = DType::kF32;
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t row_bytes = 0;

  const std::byte* row(int64_t idx) const { return data + idx * row_bytes; }
  explicit operator bool() const { return data != nullptr; }
};

}  // namespace foveal

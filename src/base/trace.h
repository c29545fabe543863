#pragma once

#include <cstdint>
#include <string_view>

namespace foveal {

/// Takes named intermediate tensors while a model runs (`foveal run --trace`).
class TraceSink {
 public:
  virtual ~TraceSink() = default;
  virtual bool wants(std::string_view name) const = 0;
  /// [rows, cols] with row stride `stride` elements; rows of later calls continue those of earlier.
  virtual void add(std::string_view name, const float* data, int64_t rows, int64_t cols,
                   int64_t stride) = 0;
};

}  // namespace foveal

#pragma once

#include <cstdint>

#include "device/device.h"

namespace foveal::model {

/// A grow-only float32 matrix [rows, cols] on the device, reused from step to step: no allocation
/// happens in a step that is no larger than one before it.
class Activation {
 public:
  /// Contents are lost when it grows.
  float* reserve(Device device, int64_t rows, int64_t cols) {
    const size_t bytes = static_cast<size_t>(rows) * static_cast<size_t>(cols) * sizeof(float);
    if (buffer_.size() < bytes) {
      buffer_ = Buffer();
      buffer_ = Buffer(device, bytes, "activations");
    }
    return data();
  }
  float* data() const { return reinterpret_cast<float*>(buffer_.data()); }

 private:
  Buffer buffer_;
};

}  // namespace foveal::model

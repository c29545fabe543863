#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "base/error.h"
#include "base/half.h"
#include "device/stream.h"

/// What the GPU tests of the dense kernels share: arrays on the device and values in their types.
namespace foveal::kernels::cuda::testing {

inline constexpr Device kGpu{DeviceKind::kCuda, 0};

/// A device array with what a host vector held.
template <class T>
class DeviceArray {
 public:
  DeviceArray(const Stream& stream, const std::vector<T>& values)
      : stream_(stream), size_(values.size()), buffer_(kGpu, bytes() + 16, "a test") {
    stream.copy(buffer_.data(), values.data(), bytes());
    stream.synchronize();
  }
  /// Every byte 0xff: a NaN in every float type, so that what is not written shows.
  DeviceArray(const Stream& stream, size_t size)
      : stream_(stream), size_(size), buffer_(kGpu, bytes() + 16, "a test") {
    stream.fill(buffer_.data(), 0xff, bytes());
    stream.synchronize();
  }

  T* data() const { return reinterpret_cast<T*>(buffer_.data()); }
  std::vector<T> download() const {
    std::vector<T> out(size_);
    stream_.copy(out.data(), buffer_.data(), bytes());
    stream_.synchronize();
    return out;
  }

 private:
  size_t bytes() const { return size_ * sizeof(T); }

  const Stream& stream_;
  size_t size_;
  Buffer buffer_;
};

class CudaTest : public ::testing::Test {
 protected:
  std::vector<float> normal(size_t count, float deviation = 1) {
    std::normal_distribution<float> distribution(0, deviation);
    std::vector<float> out(count);
    for (float& x : out) x = distribution(rng_);
    return out;
  }
  /// Small integers: products and sums of them are exact in float32, so results can be compared bit
  /// for bit in any order of summation.
  std::vector<float> integers(size_t count, int most) {
    std::uniform_int_distribution<int> distribution(-most, most);
    std::vector<float> out(count);
    for (float& x : out) x = static_cast<float>(distribution(rng_));
    return out;
  }
  template <class T>
  DeviceArray<T> upload(const std::vector<T>& values) {
    return DeviceArray<T>(stream_, values);
  }

  std::mt19937 rng_{20261128};
  ThreadPool pool_{1};
  Stream stream_{kGpu, pool_};
};

inline std::vector<uint16_t> to_bf16(const std::vector<float>& values) {
  std::vector<uint16_t> out;
  for (const float x : values) out.push_back(float_to_bf16(x));
  return out;
}
inline std::vector<uint16_t> to_f16(const std::vector<float>& values) {
  std::vector<uint16_t> out;
  for (const float x : values) out.push_back(float_to_f16(x));
  return out;
}
inline std::vector<float> from_bf16(const std::vector<uint16_t>& values) {
  std::vector<float> out;
  for (const uint16_t x : values) out.push_back(bf16_to_float(x));
  return out;
}
/// As a kernel sees values that were stored in bf16.
inline std::vector<float> rounded(const std::vector<float>& values) {
  return from_bf16(to_bf16(values));
}

/// Half a unit in the last place, relative to the power of two below.
inline constexpr double kBf16Half = 0x1p-8;
inline constexpr double kF16Half = 0x1p-11;
inline constexpr double kE4m3Half = 0x1p-4;
inline constexpr double kF32Half = 0x1p-24;

}  // namespace foveal::kernels::cuda::testing

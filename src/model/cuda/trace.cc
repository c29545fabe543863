#include "model/cuda/trace.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "base/half.h"

namespace foveal::model {
namespace {

float widened(float value) { return value; }
float widened(uint16_t value) { return bf16_to_float(value); }

template <class T>
void trace(const ForwardInput& input, std::string_view what, int32_t layer, const T* data,
           int64_t cols, int64_t stride, const Stream& stream) {
  if (input.trace == nullptr) return;
  const std::string name = fmt::format("{}.{}", what, layer);
  if (!input.trace->wants(name)) return;
  const int64_t rows = input.rows.total;
  std::vector<T> host(static_cast<size_t>((rows - 1) * stride + cols));
  stream.copy(host.data(), data, host.size() * sizeof(T));
  stream.synchronize();
  std::vector<float> values;
  for (int64_t row = 0; row < rows; ++row) {
    const auto begin = host.begin() + row * stride;
    std::transform(begin, begin + cols, std::back_inserter(values),
                   [](T value) { return widened(value); });
  }
  input.trace->add(name, values.data(), rows, cols, cols);
}

}  // namespace

void trace_on_device(const ForwardInput& input, std::string_view what, int32_t layer,
                     const uint16_t* data, int64_t cols, int64_t stride, const Stream& stream) {
  trace(input, what, layer, data, cols, stride, stream);
}

void trace_on_device(const ForwardInput& input, std::string_view what, int32_t layer,
                     const float* data, int64_t cols, int64_t stride, const Stream& stream) {
  trace(input, what, layer, data, cols, stride, stream);
}

}  // namespace foveal::model

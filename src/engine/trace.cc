#include "engine/trace.h"

#include <algorithm>

#include "base/check.h"
#include "device/device.h"

namespace foveal::engine {
namespace {

constexpr size_t kMaxFilter = 500;  // std::regex recurses with the pattern's length

std::regex parse(const std::string& filter) {
  FOVEAL_CHECK(filter.size() <= kMaxFilter, ErrorKind::kInvalidArgument, "trace-filter",
               "got {} characters; need at most {}", filter.size(), kMaxFilter);
  try {
    // Polynomial: libstdc++'s matcher that does not backtrack. It refuses back references.
    return std::regex(
        filter, std::regex::ECMAScript | std::regex::nosubs | std::regex_constants::__polynomial);
  } catch (const std::regex_error& error) {
    fail(ErrorKind::kInvalidArgument, "trace-filter", "got '{}' ({}); need a regular expression",
         filter, error.what());
  }
}

}  // namespace

// Half of what is free: a growing vector holds its old and its new values for a moment.
TraceCollector::TraceCollector(const std::string& filter)
    : filter_(parse(filter)), bytes_left_(available_memory(Device{}) / 2) {}

bool TraceCollector::wants(std::string_view name) const {
  return std::regex_search(name.begin(), name.end(), filter_);
}

void TraceCollector::add(std::string_view name, const float* data, int64_t rows, int64_t cols,
                         int64_t stride) {
  bytes_left_ -= rows * cols * static_cast<int64_t>(sizeof(float));
  FOVEAL_CHECK(bytes_left_ >= 0, ErrorKind::kOutOfMemory, "trace",
               "got tensors larger than half of the free memory; need a narrower trace-filter");
  auto found = std::find_if(tensors_.begin(), tensors_.end(),
                            [&](const TracedTensor& tensor) { return tensor.name == name; });
  if (found == tensors_.end()) {
    tensors_.push_back({.name = std::string(name), .cols = cols});
    found = tensors_.end() - 1;
  }
  for (int64_t row = 0; row < rows; ++row) {
    found->data.insert(found->data.end(), data + row * stride, data + row * stride + cols);
  }
  found->rows += rows;
}

}  // namespace foveal::engine

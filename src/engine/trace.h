#pragma once

#include <cstdint>
#include <regex>
#include <string>
#include <vector>

#include "foveal/llm.h"
#include "model/model.h"

namespace foveal::engine {

/// Keeps the intermediate tensors of one request whose names match a regex (searched, not
/// anchored).
class TraceCollector : public TraceSink {
 public:
  /// Throws kInvalidArgument for a malformed regex.
  explicit TraceCollector(const std::string& filter);

  bool wants(std::string_view name) const override;
  void add(std::string_view name, const float* data, int64_t rows, int64_t cols,
           int64_t stride) override;
  std::vector<TracedTensor> take() { return std::move(tensors_); }

 private:
  std::regex filter_;
  int64_t bytes_left_;
  std::vector<TracedTensor> tensors_;
};

}  // namespace foveal::engine

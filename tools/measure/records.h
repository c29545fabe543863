#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "foveal/request.h"
#include "measure/statistics.h"

namespace foveal::measure {

/// What one arm (dense, sparse) made of one sample.
struct ArmResult {
  std::map<std::string, std::vector<Unit>, std::less<>> values;  ///< by what was measured
  SparsityReport sparsity;
  int64_t kv_bytes = 0;       ///< held when the last request ended
  int64_t kv_peak_bytes = 0;  ///< the most a request held
  std::vector<std::string> answers;
};

/// One line of samples.jsonl.
struct Record {
  std::string id;
  std::map<std::string, std::string> tags;  ///< what to group by: length, depth, turn
  std::optional<std::string> error;         ///< why it was not measured; then there are no arms
  int64_t prompt_tokens = 0;
  std::vector<std::string> references;
  std::map<std::string, ArmResult, std::less<>> arms;
};

std::string to_json(const Record& record);
/// Throws kInvalidArgument.
Record record_from_json(std::string_view line, std::string_view where);

}  // namespace foveal::measure

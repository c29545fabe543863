#include "eval/length_task.h"

#include <algorithm>

#include "measure/documents.h"

namespace foveal::eval {

int64_t LengthTask::longest() const {
  const std::vector<int64_t> lengths = parse_lengths(lengths_);
  return *std::max_element(lengths.begin(), lengths.end());
}

measure::Settings LengthTask::contents() const {
  if (haystack_.empty()) return {};
  return {{"haystack", measure::content_hash(haystack_, "haystack")}};
}

Haystack LengthTask::make_haystack() const {
  return haystack_.empty() ? Haystack() : Haystack(haystack_);
}

}  // namespace foveal::eval

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

OptionField LengthTask::lengths_field(std::string_view help) {
  return {.name = "lengths", .target = &lengths_, .help = help};
}
OptionField LengthTask::haystack_field(std::string_view help) {
  return {.name = "haystack", .target = &haystack_, .help = help};
}
OptionField LengthTask::max_tokens_field(int64_t& max_tokens) {
  return {.name = "max_tokens",
          .target = &max_tokens,
          .help = "of an answer",
          .range = {.min = 1, .max = kMostAnswerTokens}};
}

}  // namespace foveal::eval

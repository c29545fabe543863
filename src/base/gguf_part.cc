#include "base/gguf_part.h"

#include <fmt/format.h>

#include <charconv>

namespace foveal {
namespace {

constexpr size_t kDigits = 5;

std::optional<int64_t> number_of(std::string_view digits) {
  int64_t out = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), out);
  if (error != std::errc{} || end != digits.data() + digits.size()) return std::nullopt;
  return out;
}

}  // namespace

std::string GgufPart::path(int64_t other) const {
  return fmt::format("{}-{:05}-of-{:05}.gguf", name, other, count);
}

std::optional<GgufPart> gguf_part(std::string_view path) {
  constexpr std::string_view kOf = "-of-";
  constexpr std::string_view kSuffix = ".gguf";
  constexpr size_t kTail = 1 + kDigits + kOf.size() + kDigits + kSuffix.size();
  if (path.size() <= kTail || !path.ends_with(kSuffix)) return std::nullopt;
  const std::string_view tail = path.substr(path.size() - kTail);
  if (tail.front() != '-' || tail.substr(1 + kDigits, kOf.size()) != kOf) return std::nullopt;
  const auto number = number_of(tail.substr(1, kDigits));
  const auto count = number_of(tail.substr(1 + kDigits + kOf.size(), kDigits));
  if (!number || !count || *number < 1 || *number > *count) return std::nullopt;
  return GgufPart{
      .name = std::string(path.substr(0, path.size() - kTail)), .number = *number, .count = *count};
}

}  // namespace foveal

#include "eval/needles.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <cmath>

#include "base/check.h"

namespace foveal::eval {
namespace {

// Tokens that the shortest sentence has at the least: bounds how many could fit.
constexpr int64_t kLeastSentence = 4;

std::string lower(const std::string& text) {
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    out += byte < 0x20 ? ' ' : static_cast<char>(std::tolower(byte));
  }
  return out;
}

std::string with_needles(std::vector<std::string> sentences, std::vector<Needle> needles) {
  std::stable_sort(needles.begin(), needles.end(),
                   [](const Needle& a, const Needle& b) { return a.depth < b.depth; });
  const auto count = static_cast<double>(sentences.size());
  // From the last on, so that places before stay what they were.
  for (auto needle = needles.rbegin(); needle != needles.rend(); ++needle) {
    const auto at = std::lround(needle->depth * count);
    sentences.insert(sentences.begin() + at, needle_sentence(*needle));
  }
  return join(sentences);
}

}  // namespace

std::vector<Needle> random_needles(measure::Random& random, size_t count) {
  std::vector<Needle> out;
  std::vector<std::string> keys;
  for (size_t idx = 0; idx < count; ++idx) {
    keys.push_back(random_key(random, keys));
    out.push_back({.key = keys.back(), .value = random_number(random), .depth = random.uniform()});
  }
  return out;
}

std::string needle_sentence(const Needle& needle) {
  return fmt::format("One of the special magic numbers for {} is: {}.", needle.key, needle.value);
}

std::string needle_question(const Needle& needle) {
  return fmt::format("What is the special magic number for {} mentioned in the provided text?",
                     needle.key);
}

std::string needle_prefix(const Needle& needle) {
  return fmt::format("The special magic number for {} mentioned in the provided text is",
                     needle.key);
}

std::string bury(const Haystack& haystack, measure::Random& random,
                 const std::vector<Needle>& needles, int64_t length,
                 const std::function<int64_t(const std::string&)>& tokens) {
  const std::vector<std::string> all =
      haystack.take(random, static_cast<size_t>(std::max<int64_t>(length, 0) / kLeastSentence));
  const auto context = [&](size_t count) {
    return with_needles({all.begin(), all.begin() + static_cast<std::ptrdiff_t>(count)}, needles);
  };
  const int64_t least = tokens(context(0));
  FOVEAL_CHECK(least <= length, ErrorKind::kInvalidArgument, "lengths",
               "got {}; need at least {} tokens, for question and answer alone", length, least);
  return context(largest(all.size(), length, [&](size_t count) { return tokens(context(count)); }));
}

double found(const std::string& answer, const std::string& reference) {
  return lower(answer).find(lower(reference)) == std::string::npos ? 0 : 1;
}

}  // namespace foveal::eval

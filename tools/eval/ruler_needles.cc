// RULER's eight needle tasks: what kind of key and value, how many, and among what.
#include <fmt/format.h>

#include <algorithm>

#include "eval/ruler_tasks.h"

namespace foveal::eval {
namespace {

using measure::Random;

enum class Among : uint8_t { kFiller, kText, kNeedles };

struct Kind {
  Among among = Among::kText;
  bool uuid_keys = false;
  bool uuid_values = false;
  size_t keys = 1;
  size_t values = 1;  ///< for each key
  size_t queries = 1;
};

std::string random_uuid(Random& random) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string out;
  for (const int group : {8, 4, 4, 4, 12}) {
    if (!out.empty()) out += '-';
    for (int idx = 0; idx < group; ++idx) out += kDigits[random.below(16)];
  }
  return out;
}

std::string value_of(Random& random, const Kind& kind) {
  return kind.uuid_values ? random_uuid(random) : random_number(random);
}

std::string key_of(Random& random, const Kind& kind, const std::vector<std::string>& taken) {
  return kind.uuid_keys ? random_uuid(random) : random_key(random, taken);
}

std::string_view what(const Kind& kind) { return kind.uuid_values ? "uuid" : "number"; }

std::string sentence(const Kind& kind, const std::string& key, const std::string& value) {
  return fmt::format("One of the special magic {}s for {} is: {}.", what(kind), key, value);
}

std::vector<std::string> hay(const Materials& materials, Random& random, const Kind& kind,
                             const std::vector<std::string>& keys, size_t units) {
  if (kind.among == Among::kText) return materials.haystack.take(random, units);
  std::vector<std::string> out;
  // Distractors' keys may repeat each other, but not what is asked for.
  for (size_t idx = 0; idx < units; ++idx) {
    out.push_back(kind.among == Among::kFiller
                      ? filler(idx)
                      : sentence(kind, key_of(random, kind, keys), value_of(random, kind)));
  }
  return out;
}

Draft build(const Materials& materials, Random random, size_t units, const Kind& kind) {
  std::vector<std::string> keys;
  std::vector<std::string> needles;
  Draft out;
  std::vector<std::string> asked;
  for (size_t key = 0; key < kind.keys; ++key) {
    keys.push_back(key_of(random, kind, keys));
    const bool is_asked = key < kind.queries;
    if (is_asked) asked.push_back(keys.back());
    for (size_t value = 0; value < kind.values; ++value) {
      const std::string text = value_of(random, kind);
      needles.push_back(sentence(kind, keys.back(), text));
      if (is_asked) out.references.push_back(text);
    }
  }
  std::vector<double> depths;
  for (size_t idx = 0; idx < needles.size(); ++idx) {
    depths.push_back(static_cast<double>(random.below(40)) / 39);
  }
  std::vector<std::string> sentences = hay(materials, random, kind, keys, units);
  const auto size = static_cast<double>(sentences.size());
  for (size_t idx = 0; idx < needles.size(); ++idx) {
    const auto at = static_cast<std::ptrdiff_t>(depths[idx] * size);
    sentences.insert(sentences.begin() + at, needles[idx]);
  }
  const bool one = out.references.size() == 1;
  const std::string query = listed(asked);
  const std::string things = fmt::format("{}{}", what(kind), one ? "" : "s");
  out.user = fmt::format(
      "{} special magic {} hidden within the following text. Make sure to memorize it. I will quiz "
      "you about the {} afterwards.\n{}\nWhat {} special magic {} for {} mentioned in the provided "
      "text?",
      one ? "A" : "Some", one ? things + " is" : things + " are", things, join(sentences),
      one ? "is the" : "are all the", things, query);
  out.prefix = fmt::format("The special magic {} for {} mentioned in the provided text {}", things,
                           query, one ? "is" : "are");
  return out;
}

}  // namespace

Draft niah_single_1(const Materials& materials, Random random, size_t units) {
  return build(materials, random, units, {.among = Among::kFiller});
}
Draft niah_single_2(const Materials& materials, Random random, size_t units) {
  return build(materials, random, units, {});
}
Draft niah_single_3(const Materials& materials, Random random, size_t units) {
  return build(materials, random, units, {.uuid_values = true});
}
Draft niah_multikey_1(const Materials& materials, Random random, size_t units) {
  return build(materials, random, units, {.keys = 4});
}
Draft niah_multikey_2(const Materials& materials, Random random, size_t units) {
  return build(materials, random, units, {.among = Among::kNeedles});
}
Draft niah_multikey_3(const Materials& materials, Random random, size_t units) {
  return build(materials, random, units,
               {.among = Among::kNeedles, .uuid_keys = true, .uuid_values = true});
}
Draft niah_multivalue(const Materials& materials, Random random, size_t units) {
  return build(materials, random, units, {.values = 4});
}
Draft niah_multiquery(const Materials& materials, Random random, size_t units) {
  return build(materials, random, units, {.keys = 4, .queries = 4});
}

}  // namespace foveal::eval

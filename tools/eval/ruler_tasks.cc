#include "eval/ruler_tasks.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <set>

#include "base/check.h"
#include "eval/needles.h"
#include "measure/documents.h"

namespace foveal::eval {
namespace json = boost::json;
namespace {

std::vector<std::string> texts_of(const json::value& value, const std::string& where) {
  std::vector<std::string> out;
  if (value.is_string()) out.emplace_back(value.get_string());
  if (const json::array* list = value.if_array()) {
    for (const json::value& item : *list) {
      FOVEAL_CHECK(item.is_string(), ErrorKind::kInvalidArgument, where,
                   "got a list with something else; need texts");
      out.emplace_back(item.get_string());
    }
  }
  FOVEAL_CHECK(!out.empty(), ErrorKind::kInvalidArgument, where,
               "got none; need a text or a list of texts");
  return out;
}

Question read_question(const measure::Document& line) {
  const auto field = [&](std::initializer_list<std::string_view> names) -> const json::value& {
    for (const std::string_view name : names) {
      if (const json::value* value = line.object.if_contains(name)) return *value;
    }
    fail(ErrorKind::kInvalidArgument, line.id, "got no {}; need question, answers and documents",
         *names.begin());
  };
  return {.text = texts_of(field({"question"}), line.id).front(),
          .answers = texts_of(field({"answers", "answer"}), line.id),
          .documents = texts_of(field({"documents", "context"}), line.id)};
}

}  // namespace

std::span<const RulerTask> ruler_tasks() {
  static constexpr std::array<RulerTask, 13> kTasks{{
      {"niah_single_1", 128, false, niah_single_1},
      {"niah_single_2", 128, false, niah_single_2},
      {"niah_single_3", 128, false, niah_single_3},
      {"niah_multikey_1", 128, false, niah_multikey_1},
      {"niah_multikey_2", 128, false, niah_multikey_2},
      {"niah_multikey_3", 128, false, niah_multikey_3},
      {"niah_multivalue", 128, false, niah_multivalue},
      {"niah_multiquery", 128, false, niah_multiquery},
      {"vt", 30, false, variable_tracking},
      {"cwe", 120, false, common_words},
      {"fwe", 50, false, frequent_words},
      {"qa_1", 32, true, single_hop},
      {"qa_2", 32, true, two_hops},
  }};
  return kTasks;
}

double ruler_score(const std::string& answer, const std::vector<std::string>& references,
                   bool any_reference) {
  double hits = 0;
  for (const std::string& reference : references) hits += found(answer, reference);
  if (any_reference) return hits > 0 ? 1 : 0;
  return hits / static_cast<double>(references.size());
}

std::vector<Question> read_questions(const std::string& path) {
  std::vector<Question> out;
  for (const measure::Document& line : measure::read_objects(path, "questions")) {
    check_document(line);
    out.push_back(read_question(line));
  }
  return out;
}

std::vector<std::string> random_words(measure::Random& random, size_t count) {
  constexpr std::string_view kConsonants = "bdfgklmnprstvz";
  constexpr std::string_view kVowels = "aeiou";
  std::set<std::string> taken;
  std::vector<std::string> out;
  while (out.size() < count) {
    std::string word;
    const int64_t syllables = random.between(2, 3);
    for (int64_t idx = 0; idx < syllables; ++idx) {
      word += kConsonants[random.below(kConsonants.size())];
      word += kVowels[random.below(kVowels.size())];
    }
    if (random.below(2) == 0) word += kConsonants[random.below(kConsonants.size())];
    if (taken.insert(word).second) out.push_back(std::move(word));
  }
  return out;
}

std::string filler(size_t idx) {
  constexpr std::array<std::string_view, 5> kSentences{"The hills are high.", "The lake is calm.",
                                                       "The road is long.", "Off we go.",
                                                       "Home again by night."};
  return std::string(kSentences[idx % kSentences.size()]);
}

std::string listed(const std::vector<std::string>& items) {
  std::string out;
  for (size_t idx = 0; idx < items.size(); ++idx) {
    if (idx > 0) out += items.size() == 2 ? " and " : idx + 1 == items.size() ? ", and " : ", ";
    out += items[idx];
  }
  return out;
}

}  // namespace foveal::eval

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>
#include <sstream>

#include "base/test_folder.h"
#include "eval/ruler_tasks.h"
#include "foveal/error.h"

namespace foveal::eval {
namespace {

TEST(Ruler, HasThirteenTasksThatGrowWithTheirUnits) {
  EXPECT_EQ(ruler_tasks().size(), 13U);
  std::set<std::string_view> names;
  for (const RulerTask& task : ruler_tasks()) {
    names.insert(task.name);
    const measure::Random random(11, task.name);
    const Draft little = task.build({}, random, 40);
    const Draft much = task.build({}, random, 400);
    EXPECT_EQ(little.references, much.references) << task.name;
    EXPECT_EQ(little.prefix, much.prefix) << task.name;
    EXPECT_GT(much.user.size(), 2 * little.user.size()) << task.name;
    EXPECT_EQ(task.build({}, random, 40).user, little.user) << task.name;
    EXPECT_NE(task.build({}, measure::Random(12, task.name), 40).user, little.user) << task.name;
    // What is asked for must be in the text, and not in the words that begin the answer.
    for (const std::string& reference : much.references) {
      EXPECT_NE(much.user.find(reference), std::string::npos) << task.name;
      EXPECT_EQ(much.prefix.find(reference), std::string::npos) << task.name;
    }
    EXPECT_FALSE(task.build({}, random, 0).references.empty()) << task.name;
  }
  EXPECT_EQ(names.size(), 13U);
}

TEST(Ruler, AsksForAsManyAsItHides) {
  const std::map<std::string_view, size_t> want{{"niah_single_1", 1},
                                                {"niah_multikey_3", 1},
                                                {"niah_multivalue", 4},
                                                {"niah_multiquery", 4},
                                                {"vt", 5},
                                                {"cwe", 10},
                                                {"fwe", 3}};
  for (const RulerTask& task : ruler_tasks()) {
    const auto found = want.find(task.name);
    if (found == want.end()) continue;
    EXPECT_EQ(task.build({}, measure::Random(3), 100).references.size(), found->second)
        << task.name;
  }
}

std::map<std::string, int> counts(const std::string& text) {
  std::map<std::string, int> out;
  std::istringstream words(text);
  for (std::string word; words >> word;) ++out[word];
  return out;
}

TEST(Ruler, WordsAreAsFrequentAsTheQuestionSays) {
  for (const size_t units : {60U, 1000U, 4000U}) {
    const Draft fwe = frequent_words({}, measure::Random(5), units);
    const size_t begin = fwe.user.find("coded words. ") + 13;  // the question has words of its own
    const auto words = counts(fwe.user.substr(begin, fwe.user.find("\nQuestion") - begin));
    int least = 1 << 30;
    for (const std::string& word : fwe.references) least = std::min(least, words.at(word));
    for (const auto& [word, count] : words) {
      const bool asked =
          std::find(fwe.references.begin(), fwe.references.end(), word) != fwe.references.end();
      if (asked || word == "....") continue;
      EXPECT_LT(count, least) << word << " of " << units;
    }
    const Draft cwe = common_words({}, measure::Random(6), units);
    const auto listed_words = counts(cwe.user);
    // An invented word may happen to be in the example as well.
    const auto example = counts(cwe.user.substr(0, cwe.user.find("\n\n")));
    const auto extra = [&](const std::string& word) {
      const auto found = example.find(word);
      return found == example.end() ? 0 : found->second;
    };
    for (const std::string& word : cwe.references) {
      EXPECT_EQ(listed_words.at(word), units >= 600 ? 30 + extra(word) : 6 + extra(word)) << word;
    }
  }
}

TEST(Ruler, VariablesAreSetBeforeTheyAreCopied) {
  const Draft draft = variable_tracking({}, measure::Random(8), 200);
  size_t last = 0;
  for (const std::string& name : draft.references) {
    const size_t at = draft.user.find("VAR " + name + " = ");
    ASSERT_NE(at, std::string::npos);
    EXPECT_GT(at, last);
    last = at;
  }
}

TEST(Ruler, ScoresAsPublished) {
  EXPECT_EQ(ruler_score("1234567 and 7654321", {"1234567", "7654321"}, false), 1);
  EXPECT_EQ(ruler_score("only 1234567", {"1234567", "7654321"}, false), 0.5);
  EXPECT_EQ(ruler_score("In PARIS", {"London", "Paris"}, true), 1);
  EXPECT_EQ(ruler_score("In Rome", {"London", "Paris"}, true), 0);
  EXPECT_EQ(ruler_score("", {"a"}, false), 0);
}

TEST(Ruler, QuestionsComeFromAFileToo) {
  const TestFolder folder;
  const std::string path =
      folder.write("questions.jsonl",
                   "{\"question\": \"q0\", \"answers\": [\"a\", \"b\"], \"documents\": \"d0\"}\n"
                   "{\"question\": \"q1\", \"answer\": \"c\", \"context\": [\"d1\", \"d2\"]}\n");
  const Materials materials{.questions = read_questions(path)};
  ASSERT_EQ(materials.questions.size(), 2U);
  for (uint64_t seed = 0; seed < 6; ++seed) {
    const Draft draft = single_hop(materials, measure::Random(seed), 10);
    for (const char* part : {"d0", "d1", "d2"}) {
      EXPECT_NE(draft.user.find(part), std::string::npos) << part;
    }
    EXPECT_EQ(draft.references.size(), draft.user.ends_with("q0") ? 2U : 1U);
  }
  folder.write("questions.jsonl", "{\"question\": \"q\"}\n");
  EXPECT_THROW(read_questions(path), Error);
}

}  // namespace
}  // namespace foveal::eval

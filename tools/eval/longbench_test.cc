// LongBench's scores; tests/measure has their agreement with implementations of another make.
#include <gtest/gtest.h>

#include <map>

#include "eval/choice.h"
#include "eval/longbench.h"
#include "eval/longbench_v1_sets.h"
#include "eval/ruler_tasks.h"
#include "eval/summary.h"
#include "eval/text_scores.h"
#include "foveal/error.h"
#include "measure/documents.h"

namespace foveal::eval {
namespace {

TEST(LongBench, ScoresWordsInAnyOrderWithoutArticles) {
  EXPECT_EQ(qa_f1("The Eiffel-Tower!", "eiffeltower"), 1);
  EXPECT_EQ(qa_f1("a an the", "x"), 0);
  EXPECT_DOUBLE_EQ(qa_f1("red red blue", "red"), 0.5);
  EXPECT_EQ(qa_f1("\xc3\x89TE a\xc3\xa9", "\xc3\xa9te a\xc3\xa9"), 1);  // not the article in "aé"
}

TEST(LongBench, ScoresClassesNumbersAndCode) {
  const std::vector<std::string> classes{"Date", "Other date", "Place"};
  EXPECT_EQ(classification("Date or Place", "Place", classes), 0.5);
  EXPECT_EQ(classification("Other date, a Date", "Other date", classes), 0.5);
  EXPECT_EQ(classification("none", "Place", classes), 0);
  EXPECT_EQ(retrieval("Paragraph 7, or 8", "Paragraph 7", "Paragraph "), 0.5);
  EXPECT_EQ(counting("It is 12.", "12"), 1);
  EXPECT_EQ(counting("none", "12"), 0);
  EXPECT_THROW(retrieval("7", "none", "Paragraph "), Error);
  EXPECT_EQ(code_similarity("\n# note\nreturn x\nrest", "return x"), 1);
  EXPECT_EQ(code_similarity("", "return x"), 0);
  EXPECT_EQ(first_line("\n\none\ntwo"), "one");
}

// Made by tests/measure/make_scores.py: formulas of another make, held against the packages that
// published scores are computed with.
TEST(LongBench, ScoresOfStoredPredictionsAgree) {
  const std::vector<std::string> classes{"Date", "Other date", "Place", "Other place",
                                         "Place name"};
  std::map<std::string, int> counts;
  for (const measure::Document& line :
       measure::read_objects(FOVEAL_SOURCE_DIR "/tools/eval/testdata/scores.jsonl")) {
    const std::string kind = text_field(line.object, "kind", line.id);
    const std::string answer = text_field(line.object, "answer", line.id);
    const std::vector<std::string> references = texts_field(line.object, "references", line.id);
    const std::string& reference = references.front();
    const double got = kind == "qa_f1"            ? qa_f1(answer, reference)
                       : kind == "rouge"          ? rouge_l(answer, reference)
                       : kind == "code_sim"       ? code_similarity(answer, reference)
                       : kind == "classification" ? classification(answer, reference, classes)
                       : kind == "retrieval"      ? retrieval(answer, reference, "Paragraph ")
                       : kind == "count"          ? counting(answer, reference)
                                         : ruler_score(answer, references, kind == "ruler_any");
    EXPECT_NEAR(got, line.object.at("score").to_number<double>(), 1e-12) << line.id << answer;
    ++counts[kind];
  }
  EXPECT_EQ(counts.size(), 8);
  for (const auto& [kind, count] : counts) EXPECT_EQ(count, 200) << kind;
}

TEST(LongBench, ReadsTheLetterThatIsMeant) {
  EXPECT_EQ(chosen_letter("B it was</think>**The correct answer is (C)**"), "C");
  EXPECT_EQ(chosen_letter("The correct answer is D, not A"), "D");
  EXPECT_EQ(chosen_letter("Because of A."), "A");
  EXPECT_EQ(chosen_letter("BAD CAFE"), "");
}

TEST(LongBench, FillsEachPlaceOnce) {
  EXPECT_EQ(filled("$A$ $B$ $", {{"$A$", "$B$"}, {"$B$", "x"}}), "$B$ x $");
}

TEST(LongBench, EverySetHasWhatItNeeds) {
  EXPECT_EQ(longbench_sets().size(), 21);
  for (const LongBenchSet& set : longbench_sets()) {
    if (set.score == nullptr) continue;
    EXPECT_NE(set.prompt.find("{context}"), std::string_view::npos) << set.name;
  }
}

TEST(Summary, BalancedScoresAreMeansOfMeans) {
  Results results{.task = "t", .arms = {"dense"}};
  results.metrics = {
      {.name = "score", .title = "score", .transform = unchanged, .balance = {"g", "t"}}};
  const auto add = [&](const char* group, const char* task, double score) {
    measure::Record record{.id = std::to_string(results.records.size())};
    record.tags = {{"g", group}, {"t", task}};
    record.arms["dense"].values["score"] = {{score, 1}};
    results.records.push_back(record);
  };
  for (int idx = 0; idx < 6; ++idx) add("one", "a", 1);
  add("one", "b", 0);
  add("two", "c", 1);
  // Group one: (1 + 0) / 2; group two: 1.
  EXPECT_NE(summary_json(results, {}).find("\"score\": 0.75,"), std::string::npos);
}

}  // namespace
}  // namespace foveal::eval

// What eval is made of, without a model: tests/measure runs the commands.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numeric>

#include "base/test_folder.h"
#include "eval/divergence.h"
#include "eval/needles.h"
#include "eval/summary.h"
#include "eval/windows.h"
#include "foveal/error.h"

namespace foveal::eval {
namespace {

TEST(Divergence, IsThatOfTheSoftmax) {
  // p = (1/4, 3/4), q = (1/2, 1/2): 1/4 ln(1/2) + 3/4 ln(3/2), from float32 logits.
  const std::vector<float> p{0, std::log(3.0F)};
  const std::vector<float> q{5, 5};
  const double want = 0.25 * std::log(0.5) + 0.75 * std::log(1.5);
  EXPECT_NEAR(divergence(p, q), want, 1e-7);
  EXPECT_NEAR(divergence(q, p), 0.5 * std::log(2.0) + 0.5 * std::log(2.0 / 3), 1e-7);
}

TEST(Divergence, IsExactlyNothingForEqualRows) {
  std::vector<float> row(1000);
  std::iota(row.begin(), row.end(), -700.5F);
  row[3] = -std::numeric_limits<float>::infinity();
  EXPECT_EQ(divergence(row, row), 0);
}

TEST(Divergence, BestIsTheFirstOfEquals) { EXPECT_EQ(best(std::vector<float>{1, 4, 4, 2}), 1); }

TEST(Blocks, HoldSixtyFourNeighbours) {
  const std::vector<double> values(130, 0.5);
  const std::vector<measure::Unit> got = in_blocks(values);
  EXPECT_EQ(got, (std::vector<measure::Unit>{{32, 64}, {32, 64}, {1, 2}}));
  EXPECT_TRUE(in_blocks({}).empty());
}

TEST(Lengths, AreAListOfPositiveNumbers) {
  EXPECT_EQ(parse_lengths("512, 4096"), (std::vector<int64_t>{512, 4096}));
  for (const char* bad : {"", "a", "0", "-3", "512,", "512,512", "1.5", "99999999999999999999"}) {
    EXPECT_THROW(parse_lengths(bad), Error) << bad;
  }
}

TEST(Largest, IsTheLastThatFits) {
  for (size_t most : {size_t{0}, size_t{1}, size_t{20}, size_t{500}}) {
    for (size_t want = 0; want <= most; ++want) {
      const auto line = [](size_t count) { return static_cast<int64_t>(100 + 7 * count); };
      EXPECT_EQ(largest(most, line(want) + 3, line), want);
      const auto step = [&](size_t count) { return int64_t{count > want ? 900 : 3}; };
      EXPECT_EQ(largest(most, 10, step), want);
      const auto curve = [](size_t count) { return static_cast<int64_t>(count * count * count); };
      EXPECT_EQ(largest(most, curve(want), curve), want);
    }
  }
  EXPECT_EQ(largest(20, 5, [](size_t) { return 6; }), 0);
}

TEST(Largest, MeasuresFewTextsOfManyUnits) {
  int64_t measured = 0;
  size_t probes = 0;
  // Sentences of 10 to 19 tokens, 24,576 of them at most.
  const auto tokens = [&](size_t count) {
    int64_t sum = 90;
    for (size_t idx = 0; idx < count; ++idx) sum += 10 + static_cast<int64_t>(idx * idx % 10);
    measured += sum;
    ++probes;
    return sum;
  };
  const size_t found = largest(6144, 24576, tokens);
  EXPECT_LE(probes, 8);
  EXPECT_LE(measured, 8 * 24576);
  EXPECT_LE(tokens(found), 24576);
  EXPECT_GT(tokens(found + 1), 24576);
}

TEST(Haystack, GeneratedTextDependsOnTheSeedAlone) {
  measure::Random one(3);
  measure::Random same(3);
  measure::Random other(4);
  const Haystack haystack;
  const auto text = haystack.take(one, 50);
  EXPECT_EQ(text, haystack.take(same, 50));
  EXPECT_NE(text, haystack.take(other, 50));
  for (const std::string& sentence : text) {
    EXPECT_TRUE(std::isupper(static_cast<unsigned char>(sentence.front()))) << sentence;
    EXPECT_EQ(sentence.back(), '.') << sentence;
  }
}

TEST(Haystack, ATextIsCutIntoItsSentences) {
  const TestFolder folder;
  const std::string path = folder.write("haystack.txt", "One is\n  short. Is two? Three!");
  measure::Random random(1);
  std::vector<std::string> got = Haystack(path).take(random, 6);
  std::rotate(got.begin(), std::find(got.begin(), got.begin() + 3, "One is short."),
              got.begin() + 3);
  EXPECT_EQ(std::vector(got.begin(), got.begin() + 3),
            (std::vector<std::string>{"One is short.", "Is two?", "Three!"}));
}

int64_t characters(const std::string& context) { return static_cast<int64_t>(context.size()); }

TEST(Needles, StandWhereTheyShould) {
  measure::Random random(5);
  std::vector<Needle> needles = random_needles(random, 3);
  for (const double depth : {0.0, 0.5, 1.0}) {
    needles[0].depth = depth;
    const std::string text = bury(Haystack(), random, needles, 6000, characters);
    EXPECT_LE(text.size(), 6000U);
    EXPECT_GE(text.size(), 5800U);  // a sentence has less than 200 characters
    const auto at = static_cast<double>(text.find(needle_sentence(needles[0])));
    EXPECT_NEAR(at / static_cast<double>(text.size()), depth, 0.06) << depth;
    for (const Needle& needle : needles) {
      EXPECT_NE(text.find(needle_sentence(needle)), std::string::npos);
    }
  }
  EXPECT_THROW(bury(Haystack(), random, needles, 100, characters), Error);
}

TEST(Needles, KeysDiffer) {
  measure::Random random(6);
  std::vector<std::string> keys;
  for (const Needle& needle : random_needles(random, 900)) keys.push_back(needle.key);
  std::sort(keys.begin(), keys.end());
  EXPECT_EQ(std::unique(keys.begin(), keys.end()), keys.end());
}

TEST(Needles, AreFoundWhateverTheCase) {
  EXPECT_EQ(found("It is 1234567.", "1234567"), 1);
  EXPECT_EQ(found("It is BLUE\nsky", "blue sky"), 1);
  EXPECT_EQ(found("It is 123456", "1234567"), 0);
}

measure::Record record(const std::string& id, double dense, double sparse) {
  measure::Record out{.id = id, .tags = {{"length", id.substr(0, 1)}, {"depth", "0"}}};
  out.arms["dense"].values["score"] = {{dense, 1}};
  out.arms["sparse"].values["score"] = {{sparse, 1}};
  out.arms["sparse"].sparsity.layers = {{.prefill = {.pairs = 10, .pairs_used = 4}, .decode = {}}};
  return out;
}

TEST(Summary, ComparesOnTheSameSamplesAndListsFailures) {
  Results results{.task = "niah",
                  .arms = {"dense", "sparse"},
                  .metrics = {{.name = "score", .title = "score", .transform = percent}},
                  .records = {record("1a", 1, 1), record("1b", 1, 0), record("2a", 0, 0)}};
  results.records.push_back({.id = "2b", .error = "[x] got nothing; need more"});
  const std::string json = summary_json(results, {{"model", "m"}});
  for (const char* part :
       {"\"score\": 33.3", "\"score_of\": \"sparse\"", "\"samples\": 4", "\"failed\": 1",
        "\"difference\": {\"score\": {\"value\": -33.3", "\"pairs\": 3", "\"prefill\": 0.6",
        "{\"id\": \"2b\", \"error\": \"[x] got nothing; need more\"}", "{\"model\": \"m\"}",
        "{\"tags\": {\"length\": \"1\"}, \"samples\": 2, \"dense\": {\"score\": 100"}) {
    EXPECT_NE(json.find(part), std::string::npos) << part << "\n" << json;
  }
  EXPECT_NE(summary_text(results).find("difference -33.33"), std::string::npos);
}

TEST(Summary, SaysSoWhenEverythingFailed) {
  Results results{.task = "kl",
                  .arms = {"dense"},
                  .metrics = {{.name = "kl", .title = "kl", .transform = unchanged}}};
  results.records.push_back({.id = "a", .error = "[x] got nothing; need more"});
  const std::string json = summary_json(results, {});
  EXPECT_NE(json.find("\"score\": null"), std::string::npos) << json;
  EXPECT_NE(json.find("\"failed\": 1"), std::string::npos) << json;
}

}  // namespace
}  // namespace foveal::eval

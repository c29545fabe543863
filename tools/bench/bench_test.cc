// What bench is made of, without a model: tests/measure runs the commands.
#include <gtest/gtest.h>

#include <chrono>
#include <cmath>

#include "base/test_folder.h"
#include "bench/arrivals.h"
#include "bench/compare.h"
#include "bench/dataset.h"
#include "bench/serve_load.h"
#include "foveal/error.h"
#include "measure/random.h"

namespace foveal::bench {
namespace {

/// Rounds of one configuration: a machine whose speed drifts by a tenth and jitters by 2 %.
struct Machine {
  measure::Random random;
  double round(int idx, double slow) {
    const double drift = 1 + 0.1 * std::sin(idx * 0.7);
    return 100 * slow * drift * std::exp(0.02 * random.normal());
  }
};

int differences(uint64_t seed, double slow, int experiments) {
  Machine machine{measure::Random(seed)};
  int found = 0;
  for (int experiment = 0; experiment < experiments; ++experiment) {
    std::vector<double> baseline;
    std::vector<double> tested;
    for (int round = 0; round < 10; ++round) {
      baseline.push_back(machine.round(round, 1));
      tested.push_back(machine.round(round, slow));
    }
    const Comparison got = compare(baseline, tested);
    found += got.verdict == (slow > 1 ? "slower" : "no difference shown") ? 1 : 0;
  }
  return found;
}

TEST(Compare, FindsFivePercentAndCriesNoWolf) {
  const auto seed =
      static_cast<uint64_t>(std::chrono::steady_clock::now().time_since_epoch().count());
  std::printf("seed %llu\n", static_cast<unsigned long long>(seed));
  // Ten pairs of 2 % jitter each have a standard error of 0.9 %; 5 % is 5.4 of them, and the 99 %
  // quantile of nine degrees of freedom is 3.25: 96 in a hundred are found. One in a hundred is a
  // false alarm. Of 200 fewer than these are right but once in a billion runs.
  EXPECT_GE(differences(seed, 1.05, 200), 168);
  EXPECT_GE(differences(seed + 1, 1, 200), 185);
}

TEST(Compare, ReportsTheRatio) {
  const std::vector<double> baseline{10, 20, 40};
  const std::vector<double> tested{5, 10, 20};
  const Comparison got = compare(baseline, tested);
  EXPECT_DOUBLE_EQ(got.ratio, 0.5);
  EXPECT_EQ(got.verdict, "faster");
  EXPECT_EQ(compare(tested, baseline).verdict, "slower");
  EXPECT_EQ(compare(baseline, baseline).verdict, "no difference shown");
}

TEST(Dataset, BadLinesAreListed) {
  const TestFolder folder;
  const std::string path = folder.write(
      "dataset.jsonl", dataset_line(7, {1, 2, 3}, 5) +
                           "{\"task_id\": \"a\", \"prompt\": \"text\", \"output_tokens\": 1}\n"
                           "{\"prompt\": \"text\"}\n{\"prompt\": \"text\", \"output_tokens\": 0}\n"
                           "{\"output_tokens\": 3}\n{\"prompt\": 1, \"output_tokens\": 3}\nno\n");
  const Dataset got = read_dataset(path);
  ASSERT_EQ(got.requests.size(), 2U);
  EXPECT_EQ(got.requests[0].task_id, "7");
  EXPECT_EQ(got.requests[0].prompt.token_ids, (std::vector<int32_t>{1, 2, 3}));
  EXPECT_EQ(got.requests[0].output_tokens, 5);
  EXPECT_EQ(got.requests[1].prompt.text, "text");
  EXPECT_EQ(got.requests[1].task_id, "a");
  EXPECT_EQ(got.failures.size(), 5U);
  folder.write("dataset.jsonl", "no\n");
  EXPECT_THROW(read_dataset(path), Error);
}

TEST(Arrivals, HaveTheRateAndTheSpreadAskedFor) {
  constexpr int64_t kCount = 20000;
  for (const double burstiness : {0.25, 1.0, 4.0}) {
    const std::vector<double> at = arrivals(kCount, 50, burstiness, 7);
    EXPECT_EQ(at.front(), 0);
    double sum = 0;
    double squares = 0;
    for (size_t idx = 1; idx < at.size(); ++idx) {
      const double gap = 50 * (at[idx] - at[idx - 1]);
      EXPECT_GE(gap, 0);
      sum += gap;
      squares += gap * gap;
    }
    const double mean = sum / (kCount - 1);
    // Gamma of mean 1 has a variance of 1 / shape; five standard errors of mean and variance.
    EXPECT_NEAR(mean, 1, 5 / std::sqrt(burstiness * kCount));
    const double kurtosis = 3 + 6 / burstiness;
    EXPECT_NEAR(burstiness * (squares / (kCount - 1) - mean * mean), 1,
                5 * std::sqrt((kurtosis - 1) / kCount));
  }
  EXPECT_EQ(arrivals(3, 0, 1, 7), (std::vector<double>{0, 0, 0}));
  EXPECT_EQ(arrivals(3, 2, std::numeric_limits<double>::infinity(), 7),
            (std::vector<double>{0, 0.5, 1}));
}

TEST(Failures, HaveWordsForMemoryThatRanOut) {
  EXPECT_EQ(failure_words(std::bad_alloc(), "a").find("[a] got no more memory; need "), 0);
  EXPECT_EQ(failure_words(Error(ErrorKind::kIo, "[x] got y; need z"), "a"), "[x] got y; need z");
}

TEST(Slo, CountsWhatKeepsAllOfIt) {
  const Slo slo = parse_slo({"ttft:200, tpot:5.5", "e2el:1000"});
  EXPECT_TRUE(slo.kept({.ttft_ms = 200, .latency_ms = 1000, .tpot_ms = 5.5}));
  EXPECT_FALSE(slo.kept({.ttft_ms = 201, .latency_ms = 1000, .tpot_ms = 5.5}));
  EXPECT_FALSE(slo.kept({.ttft_ms = 200, .latency_ms = 1001, .tpot_ms = 5.5}));
  EXPECT_FALSE(slo.kept({.ttft_ms = 200, .latency_ms = 1000, .tpot_ms = 5.6}));
  EXPECT_FALSE(parse_slo({}).any());
  for (const char* text : {"", "ttft", "ttft:", "ttft:0", "ttft:x", "itl:3", "ttft:1,"}) {
    EXPECT_THROW(parse_slo({text}), Error) << text;
  }
}

}  // namespace
}  // namespace foveal::bench

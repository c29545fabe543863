#include "measure/statistics.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cmath>

#include "measure/random.h"

namespace foveal::measure {
namespace {

double same(double value) { return value; }

uint64_t fresh_seed() {
  const auto seed =
      static_cast<uint64_t>(std::chrono::steady_clock::now().time_since_epoch().count());
  std::printf("seed %llu\n", static_cast<unsigned long long>(seed));
  return seed;
}

TEST(Random, IsTheSameEverywhere) {
  Random random(7);
  // splitmix64 of Steele, Lea and Flood, started at 7.
  EXPECT_EQ(random.next(), 0x63cbe1e459320dd7U);
  EXPECT_NE(Random(7, "a").next(), Random(7, "b").next());
  EXPECT_EQ(Random(7, "a").next(), Random(7, "a").next());
}

TEST(Random, NormalHasMeanZeroAndVarianceOne) {
  Random random(fresh_seed());
  constexpr int kCount = 100000;
  double sum = 0;
  double squares = 0;
  for (int idx = 0; idx < kCount; ++idx) {
    const double value = random.normal();
    sum += value;
    squares += value * value;
  }
  EXPECT_NEAR(sum / kCount, 0, 5 / std::sqrt(kCount));  // five standard errors
  EXPECT_NEAR(squares / kCount, 1, 5 * std::sqrt(2.0) / std::sqrt(kCount));
}

TEST(Percentile, IsLinearBetweenNeighbours) {
  const std::vector<double> values{4, 1, 3, 2};
  EXPECT_EQ(percentile(values, 0), 1);
  EXPECT_EQ(percentile(values, 1), 4);
  EXPECT_EQ(percentile(values, 0.5), 2.5);
  EXPECT_DOUBLE_EQ(percentile(values, 0.9), 3.7);
  EXPECT_TRUE(std::isnan(percentile({}, 0.5)));
  EXPECT_EQ(average(values), 2.5);
}

TEST(Mean, WeighsUnitsByTheirCounts) {
  EXPECT_DOUBLE_EQ(mean(std::vector<Unit>{{10, 4}, {2, 2}}), 2);
  EXPECT_TRUE(std::isnan(mean({})));
}

TEST(Interval, EqualArmsDifferByNothing) {
  const std::vector<Unit> units{{1, 1}, {0, 1}, {1, 1}, {1, 1}};
  const Interval got = paired_interval(units, units, same, 1);
  EXPECT_EQ(got.low, 0);
  EXPECT_EQ(got.high, 0);
  EXPECT_TRUE(std::isnan(
      paired_interval(std::span(units).first(1), std::span(units).first(1), same, 1).low));
}

// A 95 % interval covers the truth in 95 of 100 experiments. Scores of the two arms share most of
// their noise, as the same sample's do, and are far from normal: 0 or 1.
TEST(Interval, CoversTheTruthInASimulation) {
  Random random(fresh_seed());
  constexpr int kExperiments = 400;
  constexpr double kTruth = -0.1;  // the tested arm loses a tenth
  int covered = 0;
  for (int experiment = 0; experiment < kExperiments; ++experiment) {
    std::vector<Unit> baseline;
    std::vector<Unit> tested;
    for (int sample = 0; sample < 80; ++sample) {
      const double draw = random.uniform();
      baseline.push_back({draw < 0.7 ? 1.0 : 0.0, 1});
      // Of the 70 % that the baseline solves a fifth is lost, of the others two fifteenths are won.
      const double other = random.uniform();
      const bool solved = draw < 0.7 ? other >= 0.2 : other < 0.04 / 0.3;
      tested.push_back({solved ? 1.0 : 0.0, 1});
    }
    const Interval got = paired_interval(baseline, tested, same, random.next());
    covered += got.low <= kTruth && kTruth <= got.high ? 1 : 0;
  }
  // Four standard errors (1.1 %) about 0.95, and a point for what a percentile interval of 80
  // lacks.
  EXPECT_GE(covered, 0.895 * kExperiments);
  EXPECT_LE(covered, 0.995 * kExperiments);
}

}  // namespace
}  // namespace foveal::measure

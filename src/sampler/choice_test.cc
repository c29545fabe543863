#include "sampler/choice.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

#include "foveal/error.h"
#include "sampler/philox.h"

namespace foveal::sampler {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

/// The definition, by sorting everything, in double: what each token's probability is.
std::vector<double> brute_force(const std::vector<float>& logits, const Filters& filters) {
  std::vector<size_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return logits[a] > logits[b]; });
  if (filters.top_k > 0 && static_cast<size_t>(filters.top_k) < order.size()) {
    order.resize(static_cast<size_t>(filters.top_k));
  }
  std::vector<double> weight(logits.size(), 0);
  double total = 0;
  for (const size_t token : order) {
    const double far = (double{logits[order[0]]} - double{logits[token]}) / filters.temperature;
    total += weight[token] = std::exp(-far);
  }
  double before = 0;
  for (const size_t token : order) {
    const double own = weight[token];
    if (filters.top_p < 1 && before >= filters.top_p * total) weight[token] = 0;
    if (own < filters.min_p) weight[token] = 0;
    before += own;
  }
  const double kept = std::accumulate(weight.begin(), weight.end(), 0.0);
  for (double& value : weight) value /= kept;
  return weight;
}

int32_t quantile(const std::vector<double>& probability, double u) {
  double sum = 0;
  int32_t last = 0;
  for (size_t token = 0; token < probability.size(); ++token) {
    sum += probability[token];
    if (probability[token] > 0) last = static_cast<int32_t>(token);
    if (sum > u) return static_cast<int32_t>(token);
  }
  return last;
}

TEST(Choice, AgreesWithTheDefinition) {
  const uint32_t seed = std::random_device{}();
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::mt19937 rng(seed);
  const auto pick = [&](auto... values) {
    const std::vector<double> list{static_cast<double>(values)...};
    return list[rng() % list.size()];
  };
  for (int trial = 0; trial < 3000; ++trial) {
    const auto vocab = static_cast<size_t>(pick(1, 2, 7, 33, 200, 1500));
    const double spread = pick(0, 0.01, 1, 5, 40);
    const bool coarse = rng() % 3 == 0;  // many ties
    std::vector<float> logits(vocab);
    for (float& logit : logits) {
      logit = std::normal_distribution<float>(0, 1)(rng) * static_cast<float>(spread);
      if (coarse) logit = std::round(logit);
      if (rng() % 8 == 0) logit = -kInf;
    }
    logits[rng() % vocab] = 0.25F;
    Filters filters;
    filters.temperature = pick(1e-3, 0.3, 1, 1.7, 1e6);
    filters.top_k = static_cast<int64_t>(pick(0, 0, 1, 2, 10, 199, 5000));
    // Not round numbers: at an exact tie of a sum of exponentials with its goal the two may differ.
    filters.top_p = pick(1, 1, 1e-9, 0.3137, 0.9017, 0.999931);
    filters.min_p = pick(0, 0, 0.0513, 0.5177, 1);
    const std::vector<double> want = brute_force(logits, filters);
    for (int draw = 0; draw < 8; ++draw) {
      const double u = draw == 0   ? 0.0
                       : draw == 1 ? 1 - 0x1p-53
                                   : std::uniform_real_distribution<double>(0, 1)(rng);
      const int32_t got = choose(logits, filters, u);
      ASSERT_GT(want[static_cast<size_t>(got)], 0) << "a token that the filters take out";
      if (draw < 2) continue;  // a tail too light for a draw of 53 bits is left out
      ASSERT_EQ(got, quantile(want, u)) << "trial " << trial << " u " << u;
    }
  }
}

TEST(Choice, EqualLogits) {
  const std::vector<float> logits(1000, 3.25F);
  for (const double u : {0.0, 0.5, 0.9999}) {
    EXPECT_EQ(choose(logits, {.temperature = 0.7}, u), static_cast<int32_t>(u * 1000));
    // Exactly k, and exactly the share: the lowest ids.
    EXPECT_EQ(choose(logits, {.top_k = 10}, u), static_cast<int32_t>(u * 10));
    EXPECT_EQ(choose(logits, {.top_p = 0.25}, u), static_cast<int32_t>(u * 250));
    EXPECT_EQ(choose(logits, {.min_p = 1}, u), static_cast<int32_t>(u * 1000));
  }
  EXPECT_EQ(argmax(logits), 0);
}

TEST(Choice, OneTokenLeft) {
  std::vector<float> logits(50, -kInf);
  logits[17] = -1e30F;
  for (const double u : {0.0, 0.3, 1 - 0x1p-53}) {
    EXPECT_EQ(choose(logits, {}, u), 17);
    EXPECT_EQ(choose(logits, {.temperature = 1e-300, .top_k = 3, .top_p = 0.1, .min_p = 1}, u), 17);
  }
  EXPECT_EQ(choose(std::vector<float>{-3.0F}, {.temperature = 1e300, .top_k = 1}, 0.5), 0);
  logits[17] = -kInf;
  EXPECT_THROW(choose(logits, {}, 0.5), Error);
  EXPECT_THROW(argmax(logits), Error);
}

TEST(Choice, ExtremeLogitsAndTemperatures) {
  constexpr float kMax = std::numeric_limits<float>::max();
  const std::vector<float> logits{-kMax, kMax, -kMax, kMax};
  EXPECT_EQ(choose(logits, {.temperature = 1e-300}, 0.49), 1);
  EXPECT_EQ(choose(logits, {.temperature = 1e-300}, 0.51), 3);
  EXPECT_EQ(choose(logits, {.temperature = 1e300}, 0.1), 0);  // all alike
  EXPECT_EQ(choose(logits, {.temperature = 1e300}, 0.9), 3);
}

/// Frequencies of many seeded draws against the probabilities.
TEST(Choice, ChiSquare) {
  const std::vector<float> logits{1.0F, -0.5F, 2.0F, 0.0F, -kInf, 1.5F, -2.0F, 2.0F};
  const std::vector<Filters> cases{{.temperature = 1},
                                   {.temperature = 2.5},
                                   {.temperature = 0.6, .top_k = 4},
                                   {.temperature = 1, .top_p = 0.83},
                                   {.temperature = 1.3, .min_p = 0.2}};
  for (size_t idx = 0; idx < cases.size(); ++idx) {
    constexpr int kDraws = 20000;
    std::vector<int> count(logits.size(), 0);
    for (uint64_t draw = 0; draw < kDraws; ++draw) {
      ++count[static_cast<size_t>(choose(logits, cases[idx], uniform_draw(1234 + idx, draw)))];
    }
    const std::vector<double> probability = brute_force(logits, cases[idx]);
    double chi_square = 0;
    int kept = 0;
    for (size_t token = 0; token < logits.size(); ++token) {
      const double expected = probability[token] * kDraws;
      if (expected == 0) {
        EXPECT_EQ(count[token], 0);
        continue;
      }
      ++kept;
      chi_square += (count[token] - expected) * (count[token] - expected) / expected;
    }
    // d = kept - 1 degrees of freedom: mean d, variance 2d. The seeds are fixed, so four deviations
    // and a half (for the skew of few degrees) leave nothing to chance.
    const double degrees = kept - 1;
    EXPECT_GE(kept, 2);
    EXPECT_LT(chi_square, degrees + 4.5 * std::sqrt(2 * degrees)) << "case " << idx;
  }
}

}  // namespace
}  // namespace foveal::sampler

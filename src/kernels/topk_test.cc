#include "kernels/topk.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>

#include "foveal/error.h"

namespace foveal::kernels {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

std::vector<int32_t> by_sorting(const std::vector<float>& values, int64_t k) {
  std::vector<int32_t> order(values.size());
  std::iota(order.begin(), order.end(), 0);
  const auto value = [&](int32_t idx) {
    const float v = values[static_cast<size_t>(idx)];
    return std::isnan(v) ? -kInf : v;
  };
  std::stable_sort(order.begin(), order.end(),
                   [&](int32_t a, int32_t b) { return value(a) > value(b); });
  order.resize(static_cast<size_t>(k));
  return order;
}

TEST(TopK, AgreesWithStableSort) {
  const uint32_t seed = std::random_device{}();
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::mt19937 rng(seed);
  for (const int64_t n : {1, 2, 31, 32, 33, 65, 257, 1000, 5003}) {
    for (const int distinct : {1, 3, 50, 1 << 30}) {
      std::vector<float> values(static_cast<size_t>(n));
      for (float& value : values) {
        const auto pick = static_cast<int>(rng() % static_cast<uint32_t>(distinct));
        value = distinct > 100 ? std::normal_distribution<float>()(rng) : static_cast<float>(pick);
        const uint32_t special = rng() % 40;
        if (special == 0) value = kNan;
        if (special == 1) value = -kInf;
        if (special == 2) value = kInf;
        if (special == 3) value = -0.0F;
      }
      for (const int64_t k : {int64_t{0}, int64_t{1}, int64_t{7}, n / 3, n - 1, n}) {
        if (k < 0 || k > n) continue;
        EXPECT_EQ(top_k(values, k), by_sorting(values, k)) << "n " << n << " k " << k;
      }
    }
  }
}

TEST(TopK, OrderedInputs) {
  std::vector<float> values(10007);
  std::iota(values.begin(), values.end(), -5000.0F);
  EXPECT_EQ(top_k(values, 100), by_sorting(values, 100));  // every value beats the ones before it
  std::reverse(values.begin(), values.end());
  EXPECT_EQ(top_k(values, 100), by_sorting(values, 100));
  std::fill(values.begin(), values.end(), kNan);
  EXPECT_EQ(top_k(values, 3), (std::vector<int32_t>{0, 1, 2}));
}

/// What a row is made of: every kind has many ties, an order, or values at the edges of float32.
std::vector<float> random_row(std::mt19937& rng, size_t n) {
  std::vector<float> row(n);
  std::normal_distribution<float> normal;
  const uint32_t kind = rng() % 12;
  const float first = normal(rng);
  const float second = normal(rng);
  for (size_t idx = 0; idx < n; ++idx) {
    const auto at = static_cast<float>(idx);
    switch (kind) {
      case 0:
        row[idx] = first;
        break;
      case 1:
        row[idx] = at;
        break;
      case 2:
        row[idx] = -at;
        break;
      case 3:
        row[idx] = rng() % 2 == 0 ? first : second;
        break;
      case 4:  // denormal
        row[idx] = std::ldexp(static_cast<float>(rng() % 4096) - 2048, -149);
        break;
      case 5:  // every bit pattern
        row[idx] = std::bit_cast<float>(static_cast<uint32_t>(rng()));
        break;
      case 6:  // one bin of the first digits
        row[idx] = 1 + static_cast<float>(rng() % 65536) * 0x1p-23F;
        break;
      case 7:
        row[idx] = rng() % 4 == 0 ? kNan : rng() % 4 == 0 ? -kInf : rng() % 8 == 0 ? kInf : first;
        break;
      case 8:
        row[idx] = rng() % 2 == 0 ? 0.0F : -0.0F;
        break;
      case 9:  // rises where no sample of every 64th value looks
        row[idx] = idx % 64 == 0 ? -1000.0F : normal(rng);
        break;
      case 10:
        row[idx] = std::exp(10 * normal(rng));
        break;
      default:
        row[idx] = normal(rng);
    }
  }
  return row;
}

std::vector<int32_t> ascending(std::vector<int32_t> indices) {
  std::sort(indices.begin(), indices.end());
  return indices;
}

std::vector<float> maxima_of(std::span<const float> row) {
  std::vector<float> out;
  for (size_t at = 0; at < row.size(); at += kTopKBlock) {
    out.push_back(largest(row.subspan(at, std::min(row.size() - at, size_t{kTopKBlock}))));
  }
  return out;
}

TEST(TopKSet, AgreesWithASortOnTwentyThousandRows) {
  const uint32_t seed = std::random_device{}();
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::mt19937 rng(seed);
  TopKSet set;
  TopKSet by_blocks;
  for (int round = 0; round < 20'000; ++round) {
    // Mostly short; some around the length from which on it guesses, some far above.
    int64_t n = 1 + rng() % 300;
    if (round % 16 == 0) n = kTopKGuessLength - 2 + rng() % 5;
    if (round % 64 == 0) n = 1 + rng() % 20'000;
    const std::vector<float> row = random_row(rng, static_cast<size_t>(n));
    int64_t k = 1 + rng() % static_cast<uint64_t>(n);
    if (round % 3 == 0) k = std::min<int64_t>(n, 1 + rng() % 64);
    if (round % 50 == 0) k = n + 1;
    std::vector<int32_t> got(static_cast<size_t>(std::min(k, n)));
    set.select(row, static_cast<int32_t>(k), got.data());
    const std::vector<int32_t> want = ascending(by_sorting(row, std::min(k, n)));
    ASSERT_EQ(got, want) << "round " << round << " n " << n << " k " << k;
    std::fill(got.begin(), got.end(), -1);
    by_blocks.select(row, maxima_of(row), static_cast<int32_t>(k), got.data());
    ASSERT_EQ(got, want) << "by blocks, round " << round << " n " << n << " k " << k;
  }
  EXPECT_GT(set.fallbacks(), 0) << "no row reached the fallback";
  EXPECT_LT(set.fallbacks(), set.guesses()) << "every guess failed";
}

TEST(TopKSet, GuessesRealisticRows) {
  std::mt19937 rng(7);
  TopKSet set;
  std::vector<int32_t> got(2048);
  for (int round = 0; round < 50; ++round) {
    std::vector<float> row(8192 + rng() % 60'000);
    // Sums of weighted positive parts, with a trend along the text.
    std::normal_distribution<float> normal;
    for (size_t idx = 0; idx < row.size(); ++idx) {
      float sum = 0.5F * std::sin(static_cast<float>(idx) * 0.001F);
      for (int head = 0; head < 8; ++head) {
        sum += (0.3F * static_cast<float>(head) - 0.8F) * std::max(0.0F, normal(rng));
      }
      row[idx] = sum;
    }
    set.select(row, 2048, got.data());
    ASSERT_EQ(got, ascending(by_sorting(row, 2048)));
  }
  EXPECT_EQ(set.guesses(), 50);
  EXPECT_LE(set.fallbacks(), 1);
}

TEST(TopK, RefusesKOutOfRange) {
  const std::vector<float> values(4);
  EXPECT_THROW(top_k(values, -1), Error);
  EXPECT_THROW(top_k(values, 5), Error);
  EXPECT_TRUE(top_k({}, 0).empty());
  EXPECT_THROW(TopKSet().select(values, -1, nullptr), Error);
}

}  // namespace
}  // namespace foveal::kernels

#include "kernels/topk.h"

#include <gtest/gtest.h>

#include <algorithm>
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

TEST(TopK, RefusesKOutOfRange) {
  const std::vector<float> values(4);
  EXPECT_THROW(top_k(values, -1), Error);
  EXPECT_THROW(top_k(values, 5), Error);
  EXPECT_TRUE(top_k({}, 0).empty());
}

}  // namespace
}  // namespace foveal::kernels

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

#include "foveal/error.h"
#include "kernels/elementwise.h"
#include "kernels/reference/elementwise.h"

namespace foveal::kernels {
namespace {

struct Routed {
  std::vector<int32_t> indices;
  std::vector<float> weights;
};

Routed route(const std::vector<float>& logits, int32_t experts, int32_t k, bool normalize,
             int threads = 1) {
  ThreadPool pool(threads);
  Stream stream({}, pool);
  const auto m = static_cast<int64_t>(logits.size()) / experts;
  Routed out;
  out.indices.assign(static_cast<size_t>(m * k), -1);
  out.weights.assign(static_cast<size_t>(m * k), -1);
  moe_route({logits.data(), m, experts, k, normalize, out.indices.data(), out.weights.data()},
            stream);
  return out;
}

TEST(MoeRoute, AgreesWithReference) {
  const uint32_t seed = std::random_device{}();
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::mt19937 rng(seed);
  for (const int32_t experts : {1, 2, 8, 61, 128}) {
    const int64_t m = 37;
    std::vector<float> logits(static_cast<size_t>(m * experts));
    // Quarters of integers, so that ties are frequent.
    for (float& logit : logits) logit = static_cast<float>(static_cast<int>(rng() % 60) - 30) / 4;
    for (const int32_t k : {1, 2, std::min(8, experts), experts}) {
      if (k > experts) continue;
      for (const bool normalize : {false, true}) {
        const Routed got = route(logits, experts, k, normalize);
        const std::vector<double> soft =
            reference::router_softmax({.logits = logits.data(), .m = m, .num_experts = experts});
        for (int64_t row = 0; row < m; ++row) {
          const double* p = soft.data() + row * experts;
          std::vector<int32_t> order(static_cast<size_t>(experts));
          std::iota(order.begin(), order.end(), 0);
          std::stable_sort(order.begin(), order.end(),
                           [&](int32_t a, int32_t b) { return p[a] > p[b]; });
          double sum = 0;
          for (int32_t idx = 0; idx < k; ++idx) sum += p[order[static_cast<size_t>(idx)]];
          for (int32_t idx = 0; idx < k; ++idx) {
            const auto at = static_cast<size_t>(row * k + idx);
            EXPECT_EQ(got.indices[at], order[static_cast<size_t>(idx)]);
            const double want = p[got.indices[at]] / (normalize ? sum : 1.0);
            // expf within an ulp above and below the fraction line, one rounding of the quotient.
            EXPECT_NEAR(got.weights[at], want, 6 * 0x1p-24 * want);
          }
        }
        const Routed threaded = route(logits, experts, k, normalize, 3);
        EXPECT_EQ(threaded.indices, got.indices);
        EXPECT_EQ(threaded.weights, got.weights);
      }
    }
  }
}

struct SigmoidCase {
  int32_t experts;
  int32_t groups;
  int32_t topk_groups;
  int32_t k;
};

TEST(MoeRoute, SigmoidsAgreeWithReference) {
  // The same numbers every time: of choices that are closer than float32 can tell, either is right.
  std::mt19937 rng(7);
  for (const SigmoidCase at :
       {SigmoidCase{256, 8, 4, 8}, SigmoidCase{8, 4, 2, 3}, SigmoidCase{6, 3, 2, 2},
        SigmoidCase{6, 1, 1, 3}, SigmoidCase{1, 1, 1, 1}, SigmoidCase{16, 8, 8, 16}}) {
    const int64_t m = 37;
    std::vector<float> logits(static_cast<size_t>(m * at.experts));
    for (float& logit : logits) logit = std::normal_distribution<float>(0, 2)(rng);
    std::vector<float> bias(static_cast<size_t>(at.experts));
    for (float& value : bias) value = std::normal_distribution<float>(0, 0.3F)(rng);
    for (const bool normalize : {false, true}) {
      std::vector<int32_t> indices(static_cast<size_t>(m * at.k));
      std::vector<float> weights(indices.size());
      const MoeRouteParams params{.logits = logits.data(),
                                  .m = m,
                                  .num_experts = at.experts,
                                  .k = at.k,
                                  .normalize = normalize,
                                  .indices = indices.data(),
                                  .weights = weights.data(),
                                  .sigmoid = true,
                                  .bias = bias.data(),
                                  .num_groups = at.groups,
                                  .topk_groups = at.topk_groups,
                                  .scale = 2.5F};
      ThreadPool pool(2);
      Stream stream({}, pool);
      moe_route(params, stream);
      for (int64_t row = 0; row < m; ++row) {
        const reference::RoutedRow want = reference::route_by_sigmoids(params, row);
        for (int32_t idx = 0; idx < at.k; ++idx) {
          const auto place = static_cast<size_t>(row * at.k + idx);
          const double weight = want.weights[static_cast<size_t>(idx)];
          EXPECT_EQ(indices[place], want.experts[static_cast<size_t>(idx)]);
          // A sigmoid within three roundings, above and below the fraction line, and a last one.
          EXPECT_NEAR(weights[place], weight, 8 * 0x1p-24 * weight);
        }
      }
    }
  }
}

TEST(MoeRoute, TheBiasChoosesAndDoesNotWeigh) {
  const std::vector<float> logits{0, 0, 0, 0};
  const std::vector<float> bias{0, 5, 0, 4};
  int32_t indices[2];
  float weights[2];
  ThreadPool pool(1);
  Stream stream({}, pool);
  moe_route({.logits = logits.data(),
             .m = 1,
             .num_experts = 4,
             .k = 2,
             .normalize = true,
             .indices = indices,
             .weights = weights,
             .sigmoid = true,
             .bias = bias.data()},
            stream);
  EXPECT_EQ(indices[0], 1);
  EXPECT_EQ(indices[1], 3);
  EXPECT_EQ(weights[0], 0.5F);
  EXPECT_EQ(weights[1], 0.5F);
}

TEST(MoeRoute, NanKeepsIndicesInRange) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(route({nan, 1, nan, 2}, 4, 3, true).indices, (std::vector<int32_t>{3, 1, 0}));
  EXPECT_EQ(route({nan, nan}, 2, 2, false).indices, (std::vector<int32_t>{0, 1}));
}

TEST(MoeRoute, RefusesBadK) {
  EXPECT_THROW(route({1, 2}, 2, 0, true), Error);
  EXPECT_THROW(route({1, 2}, 2, 3, true), Error);
}

}  // namespace
}  // namespace foveal::kernels

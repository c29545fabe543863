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

#include "calibrate/exclude.h"

#include <gtest/gtest.h>

namespace foveal::calibrate {
namespace {

TEST(Exclude, WorstComesFirst) {
  const std::vector<LayerCost> costs{{.layer = 0, .kl = 0.02, .left_out = 0.02},
                                     {.layer = 1, .kl = 0.01, .left_out = 0.001},
                                     {.layer = 2, .kl = 0, .left_out = 0},
                                     {.layer = 3, .kl = 0.03, .left_out = 0.01}};
  EXPECT_EQ(exclusion_order(costs), (std::vector<int32_t>{3, 0, 1, 2}));
}

TEST(Exclude, LeftOutIsTheMeanOfPhasesThatSkip) {
  SparsityReport report;
  report.layers = {{.prefill = {.pairs = 100, .pairs_used = 40}},
                   {.prefill = {.pairs = 100, .pairs_used = 60}}};
  EXPECT_DOUBLE_EQ(left_out(report), 0.5);
  report.layers[0].decode = {.pairs = 10, .pairs_used = 9};
  EXPECT_DOUBLE_EQ(left_out(report), 0.3);
  EXPECT_EQ(left_out({}), 0);
}

TEST(Exclude, BisectsToTheFewest) {
  for (int64_t fewest = 1; fewest <= 31; ++fewest) {
    int asked = 0;
    const auto kl_of = [&](int64_t count) {
      ++asked;
      EXPECT_TRUE(count >= 1 && count <= 31) << count;
      return count >= fewest ? 0.01 : 0.5;
    };
    EXPECT_EQ(fewest_within(0.01, 31, kl_of), fewest);
    EXPECT_LE(asked, 6);
  }
  EXPECT_EQ(fewest_within(0.01, 31, [](int64_t) { return 0.02; }), std::nullopt);
}

}  // namespace
}  // namespace foveal::calibrate

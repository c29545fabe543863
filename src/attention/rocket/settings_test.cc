// What a configuration comes to: TensorRT-LLM's where it evicts, finer pages where a whole text is
// ranked.
#include "attention/rocket/settings.h"

#include <gtest/gtest.h>

#include <limits>

#include "attention/rocket/rocket_item.h"

namespace foveal::attention::rocket {
namespace {

constexpr int32_t kHeadDim = 64;

Settings settings_of(const RocketSparseAttentionConfig& config) {
  return make_settings(config,
                       {.num_layers = 2, .num_heads = 4, .num_kv_heads = 2, .head_dim = kHeadDim});
}

RocketSparseAttentionConfig turns() {
  RocketSparseAttentionConfig config;
  config.mode = "multi_turn";
  return config;
}

TEST(RocketSettings, EvictionIsTensorRtLlms) {
  const Settings got = settings_of({});
  EXPECT_TRUE(got.evicts);
  EXPECT_FALSE(got.ranks_all);
  EXPECT_EQ(got.rank_size, 4);
  EXPECT_EQ(got.topk, 64);
  EXPECT_EQ(got.recent, 1);
  EXPECT_EQ(got.bound_kind, BoundKind::kMinMax);
  EXPECT_FALSE(got.selects(2048));
  EXPECT_TRUE(got.selects(2049));
}

TEST(RocketSettings, SeveralTurnsRankAllInPagesOfHalfTheSize) {
  RocketSparseAttentionConfig config = turns();
  config.sink = 3;
  const Settings got = settings_of(config);
  EXPECT_FALSE(got.evicts);
  EXPECT_TRUE(got.ranks_all);
  EXPECT_EQ(got.rank_size, 2);
  EXPECT_EQ(got.page_size, 4);
  EXPECT_EQ(got.topk * got.rank_size, 128 * 4);
  EXPECT_EQ(got.sink * got.rank_size, 3 * 4);
  EXPECT_EQ(got.sink_tokens(), 3 * 4);
  EXPECT_EQ(got.recent * got.rank_size, 4);
  EXPECT_EQ(got.bound_kind, BoundKind::kMeanStd);
  EXPECT_FALSE(got.selects(1 << 20)) << "a prompt's end chooses nothing";
  config.page_size = 1;
  EXPECT_EQ(settings_of(config).rank_size, 1) << "there is no half";
  config.candidates = "prompt";
  EXPECT_FALSE(settings_of(config).ranks_all);
  EXPECT_TRUE(settings_of(config).selects(2049));
}

TEST(RocketSettings, WhatIsSaidStands) {
  RocketSparseAttentionConfig config = turns();
  config.topk = 64;
  EXPECT_EQ(settings_of(config).topk * settings_of(config).rank_size, 64 * 4) << "as many tokens";
  config.rank_size = 4;
  config.score = "minmax";
  EXPECT_EQ(settings_of(config).rank_size, 4);
  EXPECT_EQ(settings_of(config).topk, 64);
  EXPECT_EQ(settings_of(config).bound_kind, BoundKind::kMinMax);
  RocketSparseAttentionConfig evicts;
  evicts.rank_size = 1;
  evicts.score = "mean_std";
  EXPECT_EQ(settings_of(evicts).rank_size, 1);
  EXPECT_EQ(settings_of(evicts).topk, 256);
  EXPECT_EQ(settings_of(evicts).bound_kind, BoundKind::kMeanStd);
}

// Counts that are meant as "all" stay so, whatever a page is ranked in.
TEST(RocketSettings, PagesBeyondCountStayAllOfThem) {
  constexpr int32_t kMost = std::numeric_limits<int32_t>::max();
  RocketSparseAttentionConfig config = turns();
  config.page_size = 16;
  config.rank_size = 1;
  config.topk = kMost;
  config.force_recent = kMost - 2;
  config.sink = 2;
  const Settings got = settings_of(config);
  EXPECT_EQ(got.topk, kMost);
  EXPECT_EQ(got.sink, 32);
  EXPECT_EQ(got.recent, kMost - 32) << "with the sink no more than topk";
  config.force_recent = 1;
  config.sink = kMost - 1;
  const Settings full = settings_of(config);
  EXPECT_EQ(full.sink, kMost - 1);
  EXPECT_EQ(full.recent, 1) << "the newest page, whatever the sink";
}

}  // namespace
}  // namespace foveal::attention::rocket

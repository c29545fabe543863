#include "attention/skip_softmax/skip_softmax.h"

#include <gtest/gtest.h>

#include "foveal/error.h"

namespace foveal::attention {
namespace {

std::unique_ptr<AttentionMethod> make(double prefill, double decode, std::string_view json = {}) {
  SkipSoftmaxAttentionConfig config;
  config.threshold_scale_factor = PhaseValue{prefill, decode};
  const SparseAttentionConfig any(config);
  return make_skip_softmax(&any, {.shape = {.num_layers = 3}, .checkpoint_sparse_json = json});
}

TEST(SkipSoftmax, ResolvesLayerByLayerWithReasons) {
  const auto method = make(200, 0, R"({"ignore": ["*.1.*"]})");
  EXPECT_TRUE(method->active(Phase::kPrefill));
  EXPECT_FALSE(method->active(Phase::kDecode));
  EXPECT_EQ(method->resolve(0, Phase::kPrefill).setting, "threshold_scale_factor 200");
  EXPECT_EQ(method->resolve(0, Phase::kPrefill).why, "from the configuration");
  EXPECT_EQ(method->resolve(1, Phase::kPrefill).method, "dense");
  EXPECT_EQ(method->resolve(1, Phase::kPrefill).why,
            "layer matches the checkpoint's ignore pattern '*.1.*'");
  EXPECT_EQ(method->resolve(2, Phase::kDecode).method, "dense");
}

TEST(SkipSoftmax, IsInactiveWhereEveryLayerIsIgnored) {
  const auto method = make(200, 100, R"({"ignore": ["*"]})");
  EXPECT_FALSE(method->active(Phase::kPrefill));
  EXPECT_FALSE(method->active(Phase::kDecode));
  EXPECT_TRUE(method->prefix_key(std::nullopt, {}).empty());
}

TEST(SkipSoftmax, SharesPagesOnlyAmongEqualResults) {
  const auto method = make(200, 100);
  EXPECT_NE(method->prefix_key(1000, {}), method->prefix_key(1001, {})) << "other thresholds";
  EXPECT_EQ(method->prefix_key(1000, {}), make(200, 7)->prefix_key(1000, {}))
      << "decode writes no prompt";
  EXPECT_NE(method->prefix_key(1000, {}), make(201, 100)->prefix_key(1000, {}));
  EXPECT_NE(method->prefix_key(1000, {}),
            make(200, 100, R"({"ignore": ["*.2.*"]})")->prefix_key(1000, {}));
  EXPECT_TRUE(method->prefix_key(200, {}).empty()) << "threshold 1: dense, shared with dense";
  EXPECT_FALSE(method->prefix_key(201, {}).empty());
  EXPECT_FALSE(method->prefix_key(std::nullopt, {}).empty());
  EXPECT_NE(method->prefix_key(std::nullopt, {}), method->prefix_key(1000, {}));
}

TEST(SkipSoftmax, KeepsListedLayersDense) {
  SkipSoftmaxAttentionConfig config;
  config.threshold_scale_factor = PhaseValue{200, 100};
  config.dense_layers = {1};
  const SparseAttentionConfig any(config);
  const auto method = make_skip_softmax(&any, {.shape = {.num_layers = 3}});
  EXPECT_EQ(method->resolve(0, Phase::kDecode).method, "skip_softmax");
  EXPECT_EQ(method->resolve(1, Phase::kDecode).why, "dense_layers lists the layer");
  EXPECT_NE(method->prefix_key(1000, {}), make(200, 100)->prefix_key(1000, {}));
}

TEST(SkipSoftmax, VotesInInt8OnCudaOnly) {
  SkipSoftmaxAttentionConfig config;
  config.threshold_scale_factor = PhaseValue{200, 100};
  const auto make_votes = [&](std::string precision, DeviceKind device) {
    config.vote_precision = std::move(precision);
    const SparseAttentionConfig any(config);
    return make_skip_softmax(&any, {.shape = {.num_layers = 1}, .device = {.kind = device}});
  };
  const auto int8 = make_votes("int8", DeviceKind::kCuda);
  const auto exact = make_votes("exact", DeviceKind::kCuda);
  EXPECT_EQ(int8->resolve(0, Phase::kPrefill).setting, "threshold_scale_factor 200, int8 votes");
  EXPECT_EQ(int8->resolve(0, Phase::kDecode).setting, "threshold_scale_factor 100");
  EXPECT_NE(int8->prefix_key(1000, {}), exact->prefix_key(1000, {})) << "other tiles are left out";
  const auto error = [&](std::string precision, DeviceKind device) -> std::string {
    try {
      make_votes(std::move(precision), device);
      return "no error";
    } catch (const Error& thrown) {
      return thrown.what();
    }
  };
  EXPECT_EQ(error("int8", DeviceKind::kCpu),
            "[skip_softmax.vote_precision] got int8 on cpu; need exact, or cuda");
  EXPECT_EQ(error("int4", DeviceKind::kCuda),
            "[skip_softmax.vote_precision] got int4; need exact or int8");
}

TEST(SkipSoftmax, VotesInInt8NotOverQueriesInE4m3) {
  SkipSoftmaxAttentionConfig config;
  config.threshold_scale_factor = PhaseValue{200, 100};
  const auto make_on = [&](std::string precision) {
    config.vote_precision = std::move(precision);
    const SparseAttentionConfig any(config);
    return make_skip_softmax(&any, {.shape = {.num_layers = 1, .head_dim = 128},
                                    .device = {.kind = DeviceKind::kCuda},
                                    .e4m3_prefill = true});
  };
  EXPECT_NO_THROW(make_on("exact"));
  try {
    make_on("int8");
    ADD_FAILURE() << "int8 votes of e4m3 queries were taken";
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(),
                 "[use_fp8_context_fmha] got true with vote_precision int8; need false, or "
                 "vote_precision exact");
  }
}

TEST(SkipSoftmax, AsksForWholeQueryTiles) {
  EXPECT_EQ(make(1, 1)->capabilities().prefill_chunk_multiple, kernels::kQueryTile);
}

TEST(SkipSoftmax, IsAbsentWhenNobodyAsks) {
  EXPECT_EQ(make_skip_softmax(nullptr, {.shape = {.num_layers = 3}}), nullptr);
}

}  // namespace
}  // namespace foveal::attention

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

// Llama-3.1-8B's heads: 129 bytes a key and KV head, half a GiB at most, and a bit for each of 64
// rows, head and 128 keys; a quarter more, which the workspace adds.
TEST(SkipSoftmax, VotesInInt8HaveTheirMemoryPlanned) {
  const auto bytes = [](const char* precision, const StepLimits& limits) {
    SkipSoftmaxAttentionConfig config;
    config.threshold_scale_factor = PhaseValue{200, 100};
    config.vote_precision = precision;
    const SparseAttentionConfig any(config);
    return make_skip_softmax(
               &any,
               {.shape = {.num_layers = 1, .num_heads = 32, .num_kv_heads = 8, .head_dim = 128},
                .device = {.kind = DeviceKind::kCuda}})
        ->workspace_bytes(limits);
  };
  StepLimits limits{.max_kv_len = 32768, .max_rows = 8192, .max_seqs = 1, .max_cached = 32768};
  EXPECT_EQ(bytes("exact", limits), 0);
  const auto kept = [&](int64_t keys) {
    return (8192 / 64 + limits.max_seqs) * 32 * (keys / 4096) * 4;
  };
  const int64_t counters = 512;
  EXPECT_EQ(bytes("int8", limits), (counters + kept(32768) + int64_t{32768} * 8 * 129) / 4 * 5);
  limits.max_kv_len = limits.max_cached = 131072;
  limits.max_seqs = 64;
  limits.max_cached = int64_t{1} << 20;
  const int64_t most = (768 + kept(1 << 20) + (int64_t{512} << 20)) / 4 * 5;
  EXPECT_EQ(bytes("int8", limits), most);
  limits.kv_dtype = DType::kF8E4M3;  // the half GiB is in the model's plan
  EXPECT_EQ(bytes("int8", limits), kept(1 << 20) / 4 * 5);
}

TEST(SkipSoftmax, AsksForWholeQueryTiles) {
  EXPECT_EQ(make(1, 1)->capabilities().prefill_chunk_multiple, kernels::kQueryTile);
}

TEST(SkipSoftmax, IsAbsentWhenNobodyAsks) {
  EXPECT_EQ(make_skip_softmax(nullptr, {.shape = {.num_layers = 3}}), nullptr);
}

}  // namespace
}  // namespace foveal::attention

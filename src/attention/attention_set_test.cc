#include "attention/attention_set.h"

#include <gtest/gtest.h>

#include "attention/capabilities.h"
#include "attention/registry.h"
#include "attention/tiles.h"
#include "base/config_fields.h"
#include "base/error_testing.h"

namespace foveal::attention {
namespace {

const ModelShape kShape{.num_layers = 4,
                        .num_heads = 4,
                        .num_kv_heads = 2,
                        .head_dim = 16,
                        .windows = std::vector<int32_t>(4, 0)};

/// Of multi-head latent attention with indexers in two of its layers.
ModelShape latent_shape() {
  ModelShape shape = kShape;
  shape.num_kv_heads = 1;
  shape.value_dim = 12;
  shape.indexer = IndexerShape{.num_heads = 2, .head_dim = 16, .topk = 64, .full = {1, 0, 0, 1}};
  return shape;
}

std::unique_ptr<AttentionSet> make(const std::vector<SparseAttentionConfig>& configs,
                                   std::string_view checkpoint = {}) {
  return make_attention(configs, kShape, checkpoint, Device{});
}

SkipSoftmaxAttentionConfig factors(std::optional<double> prefill, std::optional<double> decode) {
  SkipSoftmaxAttentionConfig config;
  config.threshold_scale_factor = PhaseValue{prefill, decode};
  return config;
}

template <class Call>
std::string error_of(ErrorKind kind, Call call) {
  const std::string text = test::error_text(kind, call);
  EXPECT_NE(text, "no error");
  return text;
}

TEST(Registry, HasAWorkingRowForEveryMethod) {
  ASSERT_GE(method_rows().size(), 2U);
  EXPECT_EQ(find_method(kDenseMethod).name, "dense");
  for (const MethodRow& row : method_rows()) {
    ASSERT_FALSE(row.examples().empty()) << row.name;
    for (const MethodExample& example : row.examples()) {
      const bool latent = row.name == "dsa";
      const auto method =
          row.make(example.config.get(), {latent ? latent_shape() : kShape, {}, Device{}});
      ASSERT_NE(method, nullptr) << row.name << " " << example.name;
      EXPECT_EQ(method->name(), row.name);
      if (row.name == kDenseMethod) continue;
      // With none, or another's, the contract suite would try another method in its place.
      ASSERT_NE(example.config, nullptr) << row.name << " " << example.name;
      EXPECT_EQ(algorithm_name(*example.config), row.name) << example.name;
    }
  }
}

TEST(Registry, NamesTheKnownMethodsInErrors) {
  const std::string unknown =
      error_of(ErrorKind::kInvalidArgument, [] { find_method("skipsoftmax"); });
  EXPECT_NE(unknown.find("skip_softmax"), std::string::npos) << unknown;
}

TEST(AttentionSet, AnIndexerBringsItsMethod) {
  const auto own = make_attention({}, latent_shape(), {}, Device{});
  EXPECT_EQ(own->name(), "dsa");
  EXPECT_EQ(own->resolve(2, Phase::kDecode).setting,
            "index_topk 64, the set of layer 0, index keys FP8");
  EXPECT_EQ(own->resolve(3, Phase::kPrefill).why, "the checkpoint has an indexer");
  const auto exact = make_attention({}, latent_shape(), {}, Device{}, /*exact=*/true);
  EXPECT_EQ(exact->resolve(3, Phase::kDecode).setting,
            "index_topk 64, an indexer of its own, index keys float32");
  // What changes no result is shown where it is not the default.
  const std::vector<SparseAttentionConfig> odd{DeepSeekSparseAttentionConfig{
      .indexer_max_chunk_size = 100, .skip_indexer_for_short_seqs = false}};
  EXPECT_EQ(make_attention(odd, latent_shape(), {}, Device{})->resolve(3, Phase::kDecode).setting,
            "index_topk 64, an indexer of its own, index keys FP8, indexer_max_chunk_size 100, "
            "skip_indexer_for_short_seqs false");
  // Switched off: dense.
  const std::vector<SparseAttentionConfig> off{factors(0, 0)};
  EXPECT_EQ(make_attention(off, latent_shape(), {}, Device{})->name(), "dense");
  const std::string text =
      error_of(ErrorKind::kUnsupported, [] { make({DeepSeekSparseAttentionConfig{}}); });
  EXPECT_NE(text.find("lightning indexer"), std::string::npos) << text;
}

TEST(AttentionSet, IsDenseWhenNothingIsAsked) {
  const auto set = make({});
  EXPECT_EQ(set->name(), "dense");
  EXPECT_EQ(set->describe(4), "prefill: dense; decode: dense");
  EXPECT_EQ(set->prefill_chunk_multiple(), 1);
  EXPECT_TRUE(set->shares_prefix_pages());
  EXPECT_TRUE(set->lanes({}).empty());
  EXPECT_EQ(set->resolve(3, Phase::kDecode).method, "dense");
  EXPECT_TRUE(set->prefix_key(1000).empty());
}

TEST(AttentionSet, NamesWhatRuns) {
  const auto both = make({factors(200, 100)});
  EXPECT_EQ(both->name(), "skip_softmax");
  EXPECT_EQ(both->describe(4),
            "prefill: skip_softmax (threshold_scale_factor 200) in 4 of 4 layers; "
            "decode: skip_softmax (threshold_scale_factor 100) in 4 of 4 layers");
  EXPECT_EQ(both->prefill_chunk_multiple(), kernels::kQueryTile);
  const auto prefill = make({factors(200, std::nullopt)});
  EXPECT_EQ(prefill->name(), "skip_softmax");
  EXPECT_EQ(prefill->resolve(0, Phase::kDecode).method, "dense");
  EXPECT_NE(prefill->resolve(0, Phase::kDecode).why.find("names no decode"), std::string::npos);
}

TEST(AttentionSet, SaysWhyAMethodIsOffEverywhere) {
  const auto set = make({factors(0, 0)});
  EXPECT_EQ(set->name(), "dense");
  const Resolution row = set->resolve(0, Phase::kPrefill);
  EXPECT_EQ(row.method, "dense");
  EXPECT_NE(row.why.find("threshold_scale_factor 0"), std::string::npos) << row.why;
}

TEST(AttentionSet, RefusesOneAlgorithmTwice) {
  const std::string text = error_of(ErrorKind::kInvalidArgument, [] {
    make({factors(200, std::nullopt), factors(std::nullopt, 100)});
  });
  EXPECT_NE(text.find("skip_softmax twice"), std::string::npos) << text;
}

kv::KvGeometry cache(DType dtype, int32_t head_dim) {
  return {
      .num_layers = 4, .num_kv_heads = 2, .head_dim = head_dim, .dtype = dtype, .page_size = 32};
}

TEST(AttentionSet, RefusesACacheTheDeviceHasNoKernelFor) {
  const Device cuda{DeviceKind::kCuda, 0};
  const auto on_cuda = make_attention({}, kShape, {}, cuda);
  const auto on_cpu = make_attention({}, kShape, {}, Device{});
  for (const DType dtype : {DType::kBF16, DType::kF16, DType::kF8E4M3}) {
    EXPECT_NO_THROW(on_cuda->require(cuda, cache(dtype, 64)));
  }
  const std::string text =
      error_of(ErrorKind::kUnsupported, [&] { on_cuda->require(cuda, cache(DType::kF32, 64)); });
  EXPECT_NE(text.find("got device cuda, kv dtype f32"), std::string::npos) << text;
  EXPECT_NO_THROW(on_cpu->require(Device{}, cache(DType::kF32, 80)));
  error_of(ErrorKind::kUnsupported, [&] { on_cpu->require(Device{}, cache(DType::kF8E4M3, 64)); });
}

TEST(AttentionSet, RefusesAHeadSizeTheDeviceHasNoKernelFor) {
  const Device cuda{DeviceKind::kCuda, 0};
  const auto set = make_attention({}, kShape, {}, cuda);
  const std::string text =
      error_of(ErrorKind::kUnsupported, [&] { set->require(cuda, cache(DType::kBF16, 80)); });
  EXPECT_EQ(text, "[dense] got head_dim 80 on cuda; need one of 64, 96, 128, 192, 256");
}

TEST(AttentionSet, ChunksAndPrefixKeysFollowTheDevice) {
  SkipSoftmaxAttentionConfig config;
  config.threshold_scale_factor = PhaseValue{.prefill = 100, .decode = {}};
  const std::vector<SparseAttentionConfig> configs{config};
  const auto on_cuda = make_attention(configs, kShape, {}, Device{DeviceKind::kCuda, 0});
  const auto on_cpu = make_attention(configs, kShape, {}, Device{});
  EXPECT_EQ(on_cuda->prefill_chunk_multiple(), kernels::kCudaKeyTile);
  EXPECT_EQ(on_cpu->prefill_chunk_multiple(), kernels::kQueryTile);
  EXPECT_NE(on_cuda->prefix_key(1000), on_cpu->prefix_key(1000));
}

// Factors belong to tiles, which follow the device, the head size and what prefill multiplies in.
TEST(AttentionSet, TilesAreThoseOfThePrefillThatRuns) {
  ModelShape shape = kShape;
  const auto name = [&](DeviceKind device, int32_t head_dim, bool e4m3) {
    shape.head_dim = head_dim;
    return prefill_tiles(device, shape, e4m3).name();
  };
  EXPECT_EQ(name(DeviceKind::kCpu, 128, false), "16x32");
  EXPECT_EQ(name(DeviceKind::kCuda, 128, false), "64x128");
  EXPECT_EQ(name(DeviceKind::kCuda, 256, false), "64x64");
  EXPECT_EQ(name(DeviceKind::kCuda, 128, true), "64x96");
  shape.value_dim = 512;
  EXPECT_EQ(name(DeviceKind::kCuda, 576, false), "64x128");
}

// What one prefill kernel left out of a prefix is not what another would.
TEST(AttentionSet, PrefixKeysFollowTheTiles) {
  SkipSoftmaxAttentionConfig config;
  config.threshold_scale_factor = PhaseValue{.prefill = 100, .decode = {}};
  const std::vector<SparseAttentionConfig> configs{config};
  ModelShape shape = kShape;
  shape.head_dim = 128;
  const Device cuda{DeviceKind::kCuda, 0};
  const auto in_bf16 = make_attention(configs, shape, {}, cuda);
  const auto in_e4m3 = make_attention(configs, shape, {}, cuda, false, /*e4m3_prefill=*/true);
  EXPECT_NE(in_bf16->prefix_key(1000), in_e4m3->prefix_key(1000));
}

class Claims final : public AttentionMethod {
 public:
  std::string_view name() const override { return "claims"; }
  const Capabilities& capabilities() const override { return capabilities_; }
  bool active(Phase /*phase*/) const override { return true; }
  Resolution resolve(int32_t /*layer*/, Phase /*phase*/) const override {
    return {"claims", "", ""};
  }
  void attend(int32_t, Phase, const AttendArgs&, Stream&) override {}
  Capabilities capabilities_{.devices = {DeviceKind::kCpu}, .kv_dtypes = {DType::kBF16}};
};

TEST(AttentionSet, RefusesTwoMethodsInOnePhase) {
  AttentionSet::Methods methods;
  methods.push_back(std::make_unique<Claims>());
  methods.push_back(std::make_unique<Claims>());
  const std::string text =
      error_of(ErrorKind::kInvalidArgument, [&] { AttentionSet set(std::move(methods)); });
  EXPECT_NE(text.find("got claims and claims both for prefill"), std::string::npos) << text;
}

TEST(Capabilities, GiveBothLists) {
  Claims method;
  EXPECT_NO_THROW(require_capable(method, {}));
  method.capabilities_.decode = false;
  method.capabilities_.sliding_window = false;
  const std::string text = error_of(ErrorKind::kUnsupported, [&] {
    require_capable(method,
                    {.kv_dtype = DType::kF16, .phase = Phase::kDecode, .sliding_window = true});
  });
  EXPECT_EQ(text,
            "[claims] got device cpu, kv dtype f16, phase decode, sliding window yes; need device "
            "in [\"cpu\"], kv dtype in [\"bf16\"], phase in [\"prefill\"], sliding window no");
}

}  // namespace
}  // namespace foveal::attention

#include "attention/skip_softmax/resolve.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>

#include "base/error_testing.h"

namespace foveal::attention::skip_softmax {
namespace {

constexpr int32_t kLayers = 4;

/// The example of TensorRT-LLM's documentation.
constexpr std::string_view kCalibrated = R"json({
  "config_groups": {
    "group_0": {
      "algorithm": "skip_softmax",
      "threshold_scale_factor": {
        "formula": "a * exp(b * target_sparsity)",
        "prefill": {"a": 100.0, "b": 5.0},
        "decode": {"a": 0.05, "b": 10.0}
      },
      "target_sparsity": {"prefill": 0.5, "decode": 0.3},
      "ignore": ["model.layers.1.self_attn"]
    },
    "group_1": {"algorithm": "sparse_softmax", "sparsity_n": 2}
  }
})json";

SkipSoftmaxAttentionConfig direct(std::optional<double> prefill, std::optional<double> decode) {
  return {.threshold_scale_factor = PhaseValue{prefill, decode}};
}

SkipSoftmaxAttentionConfig target(std::optional<double> prefill, std::optional<double> decode) {
  return {.target_sparsity = PhaseValue{prefill, decode}};
}

Settings resolve(const SkipSoftmaxAttentionConfig& config, std::string_view checkpoint = {}) {
  return resolve_settings(&config, checkpoint, kLayers).value();
}

std::string error_of(ErrorKind kind, const SkipSoftmaxAttentionConfig& config,
                     std::string_view checkpoint = {}) {
  const std::string text = test::error_text(kind, [&] { resolve(config, checkpoint); });
  EXPECT_NE(text, "no error") << checkpoint;
  return text;
}

/// A skip-softmax group with this inside, beside a target for both phases.
std::string group(std::string_view members) {
  return fmt::format(R"({{"config_groups": {{"g": {{"algorithm": "skip_softmax", {}}}}}}})",
                     members);
}

bool contains(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

TEST(Resolve, TheCheckpointsOwnTargetApplies) {
  const Settings settings = resolve_settings(nullptr, kCalibrated, kLayers).value();
  EXPECT_NEAR(settings.prefill.factor, 1218.2493960703473, 1e-9);
  EXPECT_NEAR(settings.decode.factor, 1.0042768461593834, 1e-12);
  EXPECT_EQ(settings.factor(0, Phase::kPrefill), settings.prefill.factor);
  EXPECT_EQ(settings.factor(1, Phase::kPrefill), 0);
  EXPECT_EQ(settings.dense_why[1],
            "layer matches the checkpoint's ignore pattern 'model.layers.1.self_attn'");
  EXPECT_EQ(settings.prefill.why,
            "from the checkpoint's target_sparsity 0.5 by the checkpoint's formula");
}

TEST(Resolve, WithoutAnythingThereIsNoMethod) {
  EXPECT_FALSE(resolve_settings(nullptr, "", kLayers));
  EXPECT_FALSE(resolve_settings(nullptr, "null", kLayers));
  EXPECT_FALSE(resolve_settings(nullptr, "{}", kLayers));
  EXPECT_FALSE(resolve_settings(nullptr, R"({"config_groups": {}})", kLayers));
  EXPECT_FALSE(resolve_settings(nullptr, group(R"("threshold_scale_factor": {})"), kLayers));
  const std::string text = error_of(ErrorKind::kInvalidArgument, {});
  EXPECT_TRUE(contains(text, "neither threshold_scale_factor nor target_sparsity")) << text;
}

TEST(Resolve, ADirectFactorBeatsEveryTarget) {
  SkipSoftmaxAttentionConfig config = direct(200, std::nullopt);
  config.target_sparsity = PhaseValue{0.9, 0.9};
  const Settings settings = resolve(config, kCalibrated);
  EXPECT_EQ(settings.prefill.factor, 200);
  EXPECT_EQ(settings.decode.factor, 0) << "an omitted phase is off, it inherits nothing";
  EXPECT_EQ(settings.factor(1, Phase::kPrefill), 0) << "ignore wins over a direct factor";
  // It needs no formula, so a broken one does not matter.
  EXPECT_EQ(resolve(config, group(R"("threshold_scale_factor": {"formula": "("})")).prefill.factor,
            200);
  EXPECT_EQ(resolve(direct(0, 0), kCalibrated).prefill.factor, 0) << "0 counts as set";
}

TEST(Resolve, TheUsersTargetReplacesTheCheckpointsWholly) {
  const Settings settings = resolve(target(0.1, std::nullopt), kCalibrated);
  EXPECT_NEAR(settings.prefill.factor, 164.87212707001282, 1e-10);
  EXPECT_EQ(settings.decode.factor, 0);
  EXPECT_TRUE(contains(settings.decode.why, "the configuration's target_sparsity names no decode"));
  EXPECT_GT(resolve({}, kCalibrated).decode.factor, 0) << "none given: the checkpoint's";
}

TEST(Resolve, RefusesValuesOutsideTheirRange) {
  for (const double bad : {-1.0, double{NAN}, double{INFINITY}, 1e-40}) {
    error_of(ErrorKind::kInvalidArgument, direct(bad, 1));
    error_of(ErrorKind::kInvalidArgument, direct(1, bad));
  }
  for (const double bad : {-0.1, 1.1, double{NAN}, double{INFINITY}}) {
    const std::string text = error_of(ErrorKind::kInvalidArgument, target(bad, 0.5), kCalibrated);
    EXPECT_TRUE(contains(text, "target_sparsity must be in [0, 1]")) << text;
  }
}

TEST(Resolve, ATargetNeedsAFormula) {
  EXPECT_TRUE(contains(error_of(ErrorKind::kInvalidArgument, target(0.5, 0.5)),
                       "target_sparsity requires formula"));
  for (const char* members :
       {R"("targets": [])", R"("threshold_scale_factor": 5)",
        R"("threshold_scale_factor": {"prefill": {"a": 1}, "decode": {"a": 1}})",
        R"("threshold_scale_factor": {"formula": "a * target_sparsity"})",
        R"("threshold_scale_factor": {"formula": "target_sparsity", "prefill": {}})",
        R"("threshold_scale_factor": {"formula": 7, "prefill": {"a": 1}})"}) {
    const std::string text =
        error_of(ErrorKind::kInvalidArgument, target(0.5, std::nullopt), group(members));
    EXPECT_TRUE(contains(text, "to resolve target_sparsity for prefill")) << text;
  }
  // Coefficients of the other phase are not this phase's.
  const std::string text = error_of(
      ErrorKind::kInvalidArgument, target(0.5, 0.5),
      group(
          R"("threshold_scale_factor": {"formula": "a * target_sparsity", "prefill": {"a": 1}})"));
  EXPECT_TRUE(contains(text, "to resolve target_sparsity for decode")) << text;
}

TEST(Resolve, FindsCoefficientsAndFormula) {
  const auto prefill = [](std::string_view thresholds) {
    return resolve(target(0.5, std::nullopt),
                   group(fmt::format(R"("threshold_scale_factor": {})", thresholds)))
        .prefill.factor;
  };
  EXPECT_EQ(prefill(R"({"formula": "a * target_sparsity", "coefficients": {"a": 8}})"), 4);
  EXPECT_EQ(prefill(R"({"formula": "a * target_sparsity", "a": 6})"), 3);
  EXPECT_EQ(prefill(R"({"prefill": {"formula": "a + target_sparsity", "a": 1}})"), 1.5);
  EXPECT_EQ(prefill(R"({"formula": "a * target_sparsity", "coefficients": {"a": 8},
                        "prefill": {"formula": "a", "a": 2}})"),
            1)
      << "the phase's coefficients, the shared formula";
}

TEST(Resolve, RefusesWhatAFormulaMustNotGive) {
  const auto refuse = [](ErrorKind kind, std::string_view formula) {
    return error_of(
        kind, target(0.5, 0.5),
        group(fmt::format(
            R"("threshold_scale_factor": {{"formula": "{}", "coefficients": {{"a": 1}}}})",
            formula)));
  };
  EXPECT_TRUE(contains(refuse(ErrorKind::kCorruptFile, "a *"), "invalid formula"));
  EXPECT_TRUE(contains(refuse(ErrorKind::kCorruptFile, "a"), "must reference 'target_sparsity'"));
  EXPECT_TRUE(
      contains(refuse(ErrorKind::kCorruptFile, "a * b * target_sparsity"), "missing: [\"b\"]"));
  refuse(ErrorKind::kInvalidArgument, "a / (target_sparsity - 0.5)");
  refuse(ErrorKind::kInvalidArgument, "-a * target_sparsity");
}

TEST(Resolve, SelectsTheGroup) {
  for (const char* spelling : {R"("algorithm": "softmax_skip")", R"("sparse_algo": "skip_softmax")",
                               R"("sparse_algo": "softmax_skip")"}) {
    const std::string json = fmt::format(
        R"({{"config_groups": {{"g": {{{}, "threshold_scale_factor": {{"formula":
            "a * target_sparsity", "a": 2}}}}}}}})",
        spelling);
    EXPECT_EQ(resolve(target(1, 1), json).decode.factor, 2) << spelling;
  }
  const std::string flat = R"({"target_sparsity": 0.5, "threshold_scale_factor": {"formula":
      "a * target_sparsity", "coefficients": {"a": 2}}})";
  EXPECT_EQ(resolve_settings(nullptr, flat, kLayers)->decode.factor, 1);
  const std::string text = error_of(ErrorKind::kCorruptFile, direct(1, 1),
                                    R"({"config_groups": {"a": {"algorithm": "skip_softmax"},
                                        "b": {"sparse_algo": "softmax_skip"}}})");
  EXPECT_TRUE(contains(text, "multiple skip-softmax")) << text;
}

TEST(Resolve, IgnoresLayersByEverySpelling) {
  const auto ignored = [](std::string_view pattern) {
    const Settings settings = resolve(
        direct(5, 5), fmt::format(R"({{"ignore": ["x", "{}"], "config_groups": {{}}}})", pattern));
    std::string layers;
    for (int32_t layer = 0; layer < kLayers; ++layer) {
      layers += settings.factor(layer, Phase::kDecode) == 0 ? '0' : '1';
    }
    return layers;
  };
  EXPECT_EQ(ignored("model.layers.2.self_attn"), "1101");
  EXPECT_EQ(ignored("model.layers.[02].attention"), "0101");
  EXPECT_EQ(ignored("layers.3.self_attn"), "1110");
  EXPECT_EQ(ignored("layers.?.attention"), "0000");
  EXPECT_EQ(ignored("*.0.*"), "0111");
  EXPECT_EQ(ignored("layers.1"), "1111") << "the whole name must match";
  EXPECT_EQ(ignored("Model.*"), "1111");
  // Both levels count.
  const Settings both = resolve(
      direct(5, 5), R"({"ignore": ["*.0.*"], "config_groups": {"g": {"algorithm": "skip_softmax",
                        "ignore": ["*.3.*"]}}})");
  EXPECT_TRUE(both.dense_why[0]);
  EXPECT_TRUE(both.dense_why[3]);
  EXPECT_FALSE(both.dense_why[1]);
}

TEST(Resolve, KeepsListedLayersDense) {
  SkipSoftmaxAttentionConfig config = direct(5, 5);
  config.dense_layers = {3, 0};
  const Settings settings = resolve(config, kCalibrated);
  EXPECT_EQ(settings.dense_why[0], "dense_layers lists the layer");
  EXPECT_EQ(settings.factor(0, Phase::kPrefill), 0);
  EXPECT_EQ(settings.factor(1, Phase::kPrefill), 0) << "the checkpoint's ignore holds beside it";
  EXPECT_EQ(settings.factor(2, Phase::kDecode), 5);
  EXPECT_EQ(settings.factor(3, Phase::kDecode), 0);

  config.dense_layers = {4};
  EXPECT_EQ(error_of(ErrorKind::kInvalidArgument, config),
            "[skip_softmax.dense_layers] got layer 4; need 0 to 3");
  config.dense_layers = {0, 2, 3};
  EXPECT_TRUE(contains(error_of(ErrorKind::kInvalidArgument, config, kCalibrated),
                       "got no layer that is left"));
}

TEST(Resolve, RefusesBrokenCheckpoints) {
  const std::string deep = std::string(100, '[') + std::string(100, ']');
  const std::string group_list = R"({"config_groups": [1]})";
  for (const std::string& json :
       {std::string("{"), std::string("[]"), std::string("3"), deep, std::string(70000, ' '),
        group_list, std::string(R"({"config_groups": {"g": 1}})"),
        std::string(R"({"ignore": "model.*"})"), std::string(R"({"ignore": [1]})")}) {
    error_of(ErrorKind::kCorruptFile, direct(1, 1), json);
  }
  for (const char* members :
       {R"("target_sparsity": "0.5")", R"("target_sparsity": 1.5)",
        R"("target_sparsity": {"prefil": 0.5})", R"("target_sparsity": {"decode": -1})",
        R"("target_sparsity": 0.5, "threshold_scale_factor": {"formula": "a", "prefill": 3})",
        R"("target_sparsity": 0.5, "threshold_scale_factor": {"formula": "a", "a": "1"})"}) {
    EXPECT_THROW(resolve_settings(nullptr, group(members), kLayers), Error) << members;
  }
}

TEST(Resolve, NullPhaseOfATargetIsOff) {
  const Settings settings =
      resolve({}, group(R"("target_sparsity": {"prefill": 0.5, "decode": null},
                           "threshold_scale_factor": {"formula": "a * target_sparsity", "a": 2})"));
  EXPECT_EQ(settings.prefill.factor, 1);
  EXPECT_EQ(settings.decode.factor, 0);
}

TEST(Resolve, RefusesAPlainFactorInACheckpoint) {
  constexpr std::string_view kPlain =
      R"({"algorithm": "skip_softmax", "threshold_scale_factor": 5})";
  EXPECT_THROW(resolve_settings(nullptr, kPlain, kLayers), Error);
  // The configuration's own factor needs nothing of it.
  const SkipSoftmaxAttentionConfig own = direct(7, 7);
  EXPECT_EQ(resolve_settings(&own, kPlain, kLayers)->prefill.factor, 7);
}

}  // namespace
}  // namespace foveal::attention::skip_softmax

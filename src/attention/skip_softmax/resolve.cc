#include "attention/skip_softmax/resolve.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "attention/layer_list.h"
#include "attention/paged.h"
#include "attention/skip_softmax/checkpoint.h"
#include "attention/skip_softmax/glob.h"
#include "base/check.h"

namespace foveal::attention::skip_softmax {
namespace {

constexpr std::string_view kWhere = "skip_softmax";

std::optional<double> value_of(const PhaseValue& value, Phase phase) {
  return phase == Phase::kPrefill ? value.prefill : value.decode;
}

void check_factor(double factor, std::string_view what, Phase phase) {
  FOVEAL_CHECK(std::isfinite(factor) && (factor == 0 || factor >= kMinFactor),
               ErrorKind::kInvalidArgument, kWhere, "got {} for {} from {}; need 0 or at least {}",
               factor, phase_name(phase), what, kMinFactor);
}

PhaseFactor from_factor(const PhaseValue& factors, Phase phase) {
  const std::optional<double> factor = value_of(factors, phase);
  if (!factor) {
    return {0, fmt::format("the configuration's threshold_scale_factor names no {}",
                           phase_name(phase))};
  }
  check_factor(*factor, "threshold_scale_factor", phase);
  if (*factor == 0) return {0, "the configuration sets threshold_scale_factor 0"};
  return {*factor, "from the configuration"};
}

PhaseFactor from_target(const PhaseValue& targets, std::string_view whose,
                        const CheckpointSettings& checkpoint, Phase phase) {
  const std::optional<double> target = value_of(targets, phase);
  if (!target) {
    return {0, fmt::format("{} target_sparsity names no {}", whose, phase_name(phase))};
  }
  FOVEAL_CHECK(*target >= 0 && *target <= 1, ErrorKind::kInvalidArgument, kWhere,
               "got {} for {}; need a share: target_sparsity must be in [0, 1]", *target,
               phase_name(phase));
  const double factor = factor_from_target(checkpoint, phase, *target);
  check_factor(factor, fmt::format("the checkpoint's formula at target_sparsity {}", *target),
               phase);
  return {factor,
          fmt::format("from {} target_sparsity {} by the checkpoint's formula", whose, *target)};
}

/// The names TensorRT-LLM knows a layer's attention by.
std::optional<std::string> ignoring_pattern(const std::vector<std::string>& patterns,
                                            int32_t layer) {
  const std::string names[] = {fmt::format("model.layers.{}.self_attn", layer),
                               fmt::format("model.layers.{}.attention", layer),
                               fmt::format("layers.{}.self_attn", layer),
                               fmt::format("layers.{}.attention", layer)};
  for (const std::string& pattern : patterns) {
    for (const std::string& name : names) {
      if (glob_match(pattern, name)) return pattern;
    }
  }
  return std::nullopt;
}

// A configuration that lists all layers asks for a method and for none of it.
std::vector<std::optional<std::string>> dense_reasons(const SkipSoftmaxAttentionConfig* config,
                                                      const CheckpointSettings& checkpoint,
                                                      int32_t num_layers) {
  const std::vector<int32_t> own =
      config == nullptr ? std::vector<int32_t>{} : config->dense_layers;
  const std::vector<bool> listed = listed_layers(own, num_layers, "skip_softmax.dense_layers");
  std::vector<std::optional<std::string>> out;
  for (int32_t layer = 0; layer < num_layers; ++layer) {
    std::optional<std::string> why;
    if (const auto pattern = ignoring_pattern(checkpoint.ignore, layer)) {
      why = fmt::format("layer matches the checkpoint's ignore pattern '{}'", *pattern);
    } else if (listed[static_cast<size_t>(layer)]) {
      why = "dense_layers lists the layer";
    }
    out.push_back(std::move(why));
  }
  const bool all = std::all_of(out.begin(), out.end(), [](const auto& why) { return why; });
  FOVEAL_CHECK(own.empty() || !all, ErrorKind::kInvalidArgument, "skip_softmax.dense_layers",
               "got no layer that is left; need one that neither it nor the checkpoint's ignore "
               "names");
  return out;
}

/// The target in effect and whose it is.
struct Target {
  PhaseValue value;
  std::string_view whose;
};

std::optional<Target> find_target(const SkipSoftmaxAttentionConfig* config,
                                  const CheckpointSettings& checkpoint) {
  if (config != nullptr && config->target_sparsity) {
    FOVEAL_CHECK(
        checkpoint.found, ErrorKind::kInvalidArgument, kWhere,
        "got target_sparsity for a checkpoint without calibration: target_sparsity requires "
        "formula and coefficients in the checkpoint's sparse_attention_config, which was "
        "not found or was not dict type; need threshold_scale_factor instead, or a "
        "calibrated checkpoint");
    return Target{*config->target_sparsity, "the configuration's"};
  }
  if (auto target = checkpoint_target(checkpoint)) return Target{*target, "the checkpoint's"};
  refuse_plain_factor(checkpoint);
  return std::nullopt;
}

}  // namespace

std::optional<Settings> resolve_settings(const SkipSoftmaxAttentionConfig* config,
                                         std::string_view checkpoint_json, int32_t num_layers) {
  const CheckpointSettings checkpoint = read_checkpoint(checkpoint_json);
  Settings settings;
  if (config != nullptr && config->threshold_scale_factor) {
    settings.prefill = from_factor(*config->threshold_scale_factor, Phase::kPrefill);
    settings.decode = from_factor(*config->threshold_scale_factor, Phase::kDecode);
  } else {
    const std::optional<Target> target = find_target(config, checkpoint);
    if (!target && config == nullptr) return std::nullopt;
    FOVEAL_CHECK(target, ErrorKind::kInvalidArgument, kWhere,
                 "got neither threshold_scale_factor nor target_sparsity, and the checkpoint has "
                 "no target_sparsity; need one of them");
    settings.prefill = from_target(target->value, target->whose, checkpoint, Phase::kPrefill);
    settings.decode = from_target(target->value, target->whose, checkpoint, Phase::kDecode);
  }
  settings.dense_why = dense_reasons(config, checkpoint, num_layers);
  return settings;
}

}  // namespace foveal::attention::skip_softmax

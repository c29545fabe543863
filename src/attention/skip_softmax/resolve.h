#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "attention/method.h"
#include "foveal/config.h"

namespace foveal::attention::skip_softmax {

/// One phase's threshold scale factor, before layers are ignored. 0: off.
struct PhaseFactor {
  double factor = 0;
  std::string why;
};

/// What a model runs with.
struct Settings {
  PhaseFactor prefill;
  PhaseFactor decode;
  /// [num_layers]: what keeps a layer dense whatever the factor, or nothing.
  std::vector<std::optional<std::string>> dense_why;

  const PhaseFactor& of(Phase phase) const { return phase == Phase::kPrefill ? prefill : decode; }
  /// The factor in effect.
  double factor(int32_t layer, Phase phase) const {
    return dense_why.at(static_cast<size_t>(layer)) ? 0 : of(phase).factor;
  }
};

/// Settles the factors as TensorRT-LLM does: the configuration's direct factor, else a target (the
/// configuration's, else the checkpoint's) through the checkpoint's formula; a value given for one
/// phase only leaves the other off. The configuration's `dense_layers` and `ignore` patterns of the
/// checkpoint win over everything.
///
/// Nothing when `config` is null and the checkpoint has no target. Throws kInvalidArgument for
/// values outside their range, layers that do not exist or are all dense, for a target without a
/// formula, and for a configuration that names neither while the checkpoint has no target;
/// kCorruptFile for a broken checkpoint.
std::optional<Settings> resolve_settings(const SkipSoftmaxAttentionConfig* config,
                                         std::string_view checkpoint_json, int32_t num_layers);

}  // namespace foveal::attention::skip_softmax

#pragma once

#include <optional>
#include <string>
#include <vector>

#include "calibrate/exclude.h"
#include "calibrate/law.h"
#include "foveal/llm.h"

namespace foveal::calibrate {

/// What a target led to on texts that the law was not fitted to.
struct Check {
  int64_t length = 0;
  double target = 0;
  double factor = 0;
  double achieved = 0;
  double perplexity_ratio = 1;  ///< to dense
};

struct PhaseResult {
  std::string name;  ///< prefill or decode
  double target = 0;
  std::vector<Point> points;
  Law law;
  std::vector<Check> checks;
};

/// A phase that was asked for and has no law, and why.
struct MissingPhase {
  std::string name;
  std::string why;
};

/// All that was found for Skip Softmax.
struct Calibration {
  std::vector<PhaseResult> phases;     ///< one at least
  std::vector<MissingPhase> missing;   ///< those that the time limit or the texts left without
  std::vector<int32_t> dense_before;   ///< layers that were dense while they were measured
  std::optional<Exclusion> exclusion;  ///< where a KL was asked for
};

/// Refuses a .json for a model that has no config.json.
void check_target(const std::string& path, const std::string& model);

/// A .json: the model's config.json with a group of `sparse_attention_config` as ModelOpt writes
/// it, and under `calibration` what it belongs to; excluded layers are its `ignore`, and groups of
/// other algorithms stay. Else YAML with the factors of the targets and, as `dense_layers`, the
/// excluded ones and those that were dense already.
std::string output_text(const std::string& path, const LlmConfig& config, const ModelInfo& info,
                        const Calibration& found);

std::string report_json(const ModelInfo& info, const Calibration& found);
std::string summary_text(const Calibration& found);

}  // namespace foveal::calibrate

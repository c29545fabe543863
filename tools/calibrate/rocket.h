#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "foveal/config.h"

namespace foveal::calibrate {

/// One setting of RocketKV on windows of a text, against dense.
struct RocketPoint {
  int64_t prompt_budget = 0;
  int64_t topk = 0;
  double kl = 0;    ///< nats, mean over decoded tokens
  double top1 = 0;  ///< share of them with the same best token
  double decode_left_out = 0;
  double kv_bytes = 0;  ///< held by a request at its end
};

struct RocketSweep {
  std::string file;
  int64_t length = 4096;  ///< of a window, its decoded tokens included
  int64_t decode_tokens = 64;
  int64_t num_samples = 2;
  std::vector<int64_t> budgets, topks;
  double time_limit = 3600;
};

/// Runs every budget with every topk, cheapest first, each in an engine of its own beside the dense
/// one. Budgets that a prompt does not exceed are left out: they are dense. Throws kInvalidArgument
/// where none is left, or the time limit lets none run.
std::vector<RocketPoint> sweep_rocket(const LlmConfig& config, const RocketSweep& sweep);

/// The one that holds least memory, then leaves out most, with a KL of at most `budget_kl`. Throws
/// kInvalidArgument where there is none.
const RocketPoint& choose_rocket(const std::vector<RocketPoint>& points, double budget_kl);

/// YAML for --config, with the whole table in comments: the chosen point and whatever else of
/// `config` was measured with it.
std::string rocket_yaml(const LlmConfig& config, const std::vector<RocketPoint>& points,
                        const RocketPoint& chosen, const RocketSweep& sweep, double budget_kl);
std::string rocket_table(const std::vector<RocketPoint>& points, const RocketPoint& chosen);
std::string rocket_json(const std::vector<RocketPoint>& points, const RocketPoint& chosen);

}  // namespace foveal::calibrate

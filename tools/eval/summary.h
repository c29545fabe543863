#pragma once

#include <string>

#include "eval/task.h"

namespace foveal::eval {

/// What samples.jsonl comes to.
struct Results {
  std::string task;
  std::vector<std::string> arms;  ///< baseline first; the last one is the tested one
  std::vector<Metric> metrics;
  std::vector<measure::Record> records;  ///< in the order of the samples
  uint64_t seed = 0;
};

/// summary.json. `about`: facts of the run (model, device, settings), as names and values.
std::string summary_json(const Results& results, const measure::Settings& about);

/// A few lines for people.
std::string summary_text(const Results& results);

}  // namespace foveal::eval

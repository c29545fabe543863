#pragma once

#include <cstdint>
#include <string>

#include "base/options.h"

namespace foveal::tools {

/// Flags that scripts written for trtllm-bench and trtllm-eval carry and that choose nothing here:
/// the one value that Foveal does anyway is accepted, others are refused.
struct TrtllmFlags {
  std::string backend = "pytorch";
  std::string tensor = "1", pipeline = "1", expert = "1", cluster = "1", gpus = "1", beams = "1";
  std::string context = "1";
  bool chunked = true;
  bool remote_code = false;
  std::string custom_tokenizer, revision;
};

OptionGroup describe(TrtllmFlags& flags);

/// What trtllm-bench has beside them.
struct TrtllmBenchFlags {
  std::string model_path;  ///< where given, the folder of what --model only names
  std::string workspace, iteration_log;
  std::string policy = "max_utilization";
  int64_t input_len = 0, output_len = 0;
};

OptionGroup describe(TrtllmBenchFlags& flags);

}  // namespace foveal::tools

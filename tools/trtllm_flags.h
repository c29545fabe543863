#pragma once

#include <string>

#include "base/options.h"

namespace foveal::tools {

/// Flags that scripts written for trtllm-bench and trtllm-eval carry and that choose nothing here:
/// the one value that Foveal does anyway is accepted, others are refused.
struct TrtllmFlags {
  std::string backend = "pytorch";
  std::string tensor = "1", pipeline = "1", expert = "1", cluster = "1", gpus = "1", beams = "1";
  bool chunked = true;
};

OptionGroup describe(TrtllmFlags& flags);

}  // namespace foveal::tools

#pragma once

#include <string>

#include "foveal/config.h"

namespace foveal::measure {

/// `config` with another way of attention, everything else the same: for `dense` (or nothing) none
/// but dense, also where the checkpoint asks for a method; else what the YAML file at that path
/// sets over it. Throws what reading it throws.
LlmConfig baseline_config(LlmConfig config, const std::string& baseline);

}  // namespace foveal::measure

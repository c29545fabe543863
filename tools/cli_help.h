#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/options.h"

namespace foveal::tools {

/// `  --flag N   text`, the text wrapped to 100 columns beside its flag.
std::string help_row(std::string_view left, std::string_view text, int indent = 2);

/// The rows of one table that have flags.
std::string help_flags(const std::vector<OptionHelp>& rows);

/// The rows that only YAML and --set reach, grouped by the object they belong to.
std::string help_yaml_only(const std::vector<OptionHelp>& rows);

/// The candidate that a mistyped word most likely meant, or empty when none is close.
std::string nearest(std::string_view word, const std::vector<std::string>& candidates);

}  // namespace foveal::tools

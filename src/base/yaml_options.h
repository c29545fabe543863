#pragma once

#include <string>
#include <string_view>

#include "base/options_node.h"
#include "foveal/config.h"

namespace foveal {

/// One YAML document as a tree; null for an empty one. `source` is the name in errors.
/// Bounded: 256 KiB, 32 levels, 10,000 nodes with aliases expanded. Throws kInvalidArgument with
/// file and line for what is not one UTF-8 YAML document, for duplicate keys, keys that are not
/// scalars, tags other than !!str and everything out of bounds.
ConfigNode parse_yaml(std::string_view text, std::string_view source);

/// Throws kNotFound when the file cannot be opened, otherwise as parse_yaml. Errors name the file
/// without its folders.
ConfigNode load_yaml(const std::string& path);

/// Defaults, overridden by the document.
LlmConfig llm_config_from_yaml(std::string_view text, std::string_view source);

}  // namespace foveal

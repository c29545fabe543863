#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace foveal {

/// What reading a JSON text through, without keeping it, says of it.
struct JsonScan {
  std::string problem;                   ///< the parser's, in its words; empty: good JSON
  std::optional<std::string> duplicate;  ///< the first key that an object has twice
  bool has_rest = false;                 ///< bytes follow the value
};

/// `max_depth`: levels of objects and arrays; deeper text is a problem.
JsonScan scan_json(std::string_view text, size_t max_depth);

}  // namespace foveal

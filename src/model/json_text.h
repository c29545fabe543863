#pragma once

#include <boost/json/object.hpp>
#include <boost/json/value.hpp>
#include <cstdint>
#include <string>
#include <string_view>

namespace foveal::model {

enum class DuplicateKeys : uint8_t {
  kReject,    ///< kCorruptFile naming the key
  kLastWins,  ///< as Python's json module
};

/// Parses JSON text whose top is an object, at most 32 levels deep. `source` names the file in
/// errors. The words NaN, Infinity and -Infinity, which Python writes, become strings of the same
/// spelling. Throws kCorruptFile.
boost::json::object parse_json_object(std::string_view text, const std::string& source,
                                      DuplicateKeys duplicates = DuplicateKeys::kLastWins);

}  // namespace foveal::model

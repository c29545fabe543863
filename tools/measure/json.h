#pragma once

#include <boost/json/object.hpp>
#include <string>
#include <string_view>

namespace foveal::measure {

/// One JSON object, at most 32 levels deep, UTF-8. Throws kInvalidArgument, `[where] got X; need
/// Y`.
boost::json::object parse_object(std::string_view text, std::string_view where);

}  // namespace foveal::measure

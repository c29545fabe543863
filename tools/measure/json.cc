#include "measure/json.h"

#include <boost/json/parse.hpp>

#include "base/check.h"

namespace foveal::measure {

boost::json::object parse_object(std::string_view text, std::string_view where) {
  boost::json::parse_options options;
  options.max_depth = 32;
  boost::json::error_code code;
  boost::json::value value = boost::json::parse({text.data(), text.size()}, code, {}, options);
  FOVEAL_CHECK(!code, ErrorKind::kInvalidArgument, where, "got '{}'; need a JSON object in UTF-8",
               code.message());
  FOVEAL_CHECK(value.is_object(), ErrorKind::kInvalidArgument, where,
               "got JSON that is no object; need an object");
  return std::move(value.get_object());
}

}  // namespace foveal::measure

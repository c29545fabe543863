#include <boost/json/parse.hpp>

#include "base/check.h"
#include "base/json_scan.h"
#include "server/json_read.h"

namespace foveal::server {
namespace json = boost::json;
namespace {

constexpr size_t kMaxDepth = 32;

void check_text(const std::string& problem) {
  FOVEAL_CHECK(problem.empty(), ErrorKind::kInvalidArgument, "body",
               "got '{}'; need valid JSON in UTF-8, at most {} levels deep", problem, kMaxDepth);
}

}  // namespace

json::object parse_body(std::string_view text) {
  const JsonScan scan = scan_json(text, kMaxDepth);
  check_text(scan.problem);
  FOVEAL_CHECK(!scan.has_rest, ErrorKind::kInvalidArgument, "body",
               "got bytes after the JSON text; need one object");
  FOVEAL_CHECK(!scan.duplicate, ErrorKind::kInvalidArgument, "body",
               "got key '{:.60}' twice in one object; need it once", scan.duplicate.value_or(""));
  json::parse_options options;
  options.max_depth = kMaxDepth;
  json::error_code code;
  json::value value = json::parse({text.data(), text.size()}, code, {}, options);
  check_text(code ? code.message() : "");
  FOVEAL_CHECK(value.is_object(), ErrorKind::kInvalidArgument, "body", "got {}; need a JSON object",
               shown(value));
  return std::move(value.get_object());
}

}  // namespace foveal::server

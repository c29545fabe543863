// Apart from json_read.cc: the parser's template takes seconds to compile.
#include <boost/json/basic_parser_impl.hpp>
#include <boost/json/parse.hpp>
#include <cmath>
#include <set>

#include "base/check.h"
#include "server/json_read.h"

namespace foveal::server {
namespace json = boost::json;
namespace {

constexpr size_t kMaxDepth = 32;

/// Takes the parser's events and keeps only what finds a key that occurs twice in one object.
struct DuplicateFinder {
  static constexpr size_t max_object_size = SIZE_MAX;
  static constexpr size_t max_array_size = SIZE_MAX;
  static constexpr size_t max_key_size = SIZE_MAX;
  static constexpr size_t max_string_size = SIZE_MAX;
  using Code = json::error_code;
  using Text = json::string_view;

  std::vector<std::set<std::string>> open;  // trees: keys may be chosen to collide
  std::string key;
  std::optional<std::string> duplicate;

  bool on_object_begin(Code&) {
    open.emplace_back();
    return true;
  }
  bool on_object_end(size_t, Code&) {
    open.pop_back();
    return true;
  }
  bool on_key_part(Text part, size_t, Code&) {
    key.append(part.data(), part.size());
    return true;
  }
  bool on_key(Text part, size_t, Code&) {
    key.append(part.data(), part.size());
    if (!open.back().insert(key).second && !duplicate) duplicate = key;
    key.clear();
    return true;
  }
  bool on_document_begin(Code&) { return true; }
  bool on_document_end(Code&) { return true; }
  bool on_array_begin(Code&) { return true; }
  bool on_array_end(size_t, Code&) { return true; }
  bool on_string_part(Text, size_t, Code&) { return true; }
  bool on_string(Text, size_t, Code&) { return true; }
  bool on_number_part(Text, Code&) { return true; }
  bool on_int64(int64_t, Text, Code&) { return true; }
  bool on_uint64(uint64_t, Text, Code&) { return true; }
  bool on_double(double, Text, Code&) { return true; }
  bool on_bool(bool, Code&) { return true; }
  bool on_null(Code&) { return true; }
  bool on_comment_part(Text, Code&) { return true; }
  bool on_comment(Text, Code&) { return true; }
};

void check_code(const json::error_code& code) {
  FOVEAL_CHECK(!code, ErrorKind::kInvalidArgument, "body",
               "got '{}'; need valid JSON in UTF-8, at most {} levels deep", code.message(),
               kMaxDepth);
}

}  // namespace

json::object parse_body(std::string_view text) {
  json::parse_options options;
  options.max_depth = kMaxDepth;
  json::error_code code;
  {
    json::basic_parser<DuplicateFinder> finder(options);
    const size_t used = finder.write_some(/*more=*/false, text.data(), text.size(), code);
    check_code(code);
    FOVEAL_CHECK(used == text.size(), ErrorKind::kInvalidArgument, "body",
                 "got bytes after the JSON text; need one object");
    const auto& duplicate = finder.handler().duplicate;
    FOVEAL_CHECK(!duplicate, ErrorKind::kInvalidArgument, "body",
                 "got key '{:.60}' twice in one object; need it once", duplicate.value_or(""));
  }
  json::value value = json::parse({text.data(), text.size()}, code, {}, options);
  check_code(code);
  FOVEAL_CHECK(value.is_object(), ErrorKind::kInvalidArgument, "body", "got {}; need a JSON object",
               shown(value));
  return std::move(value.get_object());
}

}  // namespace foveal::server

#include "base/json_scan.h"

#include <boost/json/basic_parser_impl.hpp>
#include <set>
#include <vector>

namespace foveal {
namespace json = boost::json;
namespace {

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

}  // namespace

JsonScan scan_json(std::string_view text, size_t max_depth) {
  json::parse_options options;
  options.max_depth = max_depth;
  json::basic_parser<DuplicateFinder> finder(options);
  json::error_code code;
  const size_t used = finder.write_some(/*more=*/false, text.data(), text.size(), code);
  JsonScan out;
  if (code) out.problem = code.message();
  out.duplicate = finder.handler().duplicate;
  out.has_rest = !code && used < text.size();
  return out;
}

}  // namespace foveal

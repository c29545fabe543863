#include "model/json_text.h"

#include <array>
#include <boost/json/basic_parser_impl.hpp>
#include <boost/json/parse.hpp>
#include <set>
#include <vector>

#include "base/check.h"
#include "model/mapped_file.h"

namespace foveal::model {
namespace json = boost::json;
namespace {

constexpr size_t kMaxDepth = 32;
constexpr size_t kMaxFileBytes = 64 << 20;

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
  std::string duplicate;
  bool found = false;

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
    if (!open.back().insert(key).second && !found) {
      duplicate = key;
      found = true;
    }
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

/// Puts quotes around the words for numbers that JSON does not have, outside strings.
std::string quote_words(std::string_view text) {
  static constexpr std::array<std::string_view, 3> kWords{"-Infinity", "Infinity", "NaN"};
  std::string out;
  out.reserve(text.size() + 64);
  bool in_string = false;
  for (size_t at = 0; at < text.size();) {
    const char c = text[at];
    std::string_view word;
    if (!in_string) {
      for (const std::string_view candidate : kWords) {
        if (word.empty() && text.substr(at, candidate.size()) == candidate) word = candidate;
      }
    }
    if (!word.empty()) {
      out.append("\"").append(word).append("\"");
      at += word.size();
      continue;
    }
    if (in_string && c == '\\' && at + 1 < text.size()) out += text[at++];
    if (c == '"') in_string = !in_string;
    out += text[at++];
  }
  return out;
}

json::value parse_value(std::string_view text, json::error_code& code) {
  json::parse_options options;
  options.max_depth = kMaxDepth;
  return json::parse({text.data(), text.size()}, code, {}, options);
}

void reject_duplicates(std::string_view text, const std::string& source) {
  json::parse_options options;
  options.max_depth = kMaxDepth;
  json::basic_parser<DuplicateFinder> parser(options);
  json::error_code code;
  parser.write_some(/*more=*/false, text.data(), text.size(), code);
  FOVEAL_CHECK(!code, ErrorKind::kCorruptFile, source, "got JSON with '{}'; need valid JSON",
               code.message());
  FOVEAL_CHECK(!parser.handler().found, ErrorKind::kCorruptFile, source,
               "got key '{}' twice in one JSON object; need it once", parser.handler().duplicate);
}

}  // namespace

json::object parse_json_object(std::string_view text, const std::string& source,
                               DuplicateKeys duplicates) {
  json::error_code code;
  std::string quoted;
  json::value value = parse_value(text, code);
  if (code) {
    json::error_code again;
    quoted = quote_words(text);
    if (quoted.size() != text.size()) {
      value = parse_value(quoted, again);
      if (!again) {
        code = again;
        text = quoted;
      }
    }
  }
  FOVEAL_CHECK(!code, ErrorKind::kCorruptFile, source,
               "got JSON with '{}'; need valid JSON, at most {} levels deep", code.message(),
               kMaxDepth);
  FOVEAL_CHECK(value.is_object(), ErrorKind::kCorruptFile, source,
               "got JSON that is no object at the top; need an object");
  if (duplicates == DuplicateKeys::kReject) reject_duplicates(text, source);
  return std::move(value.get_object());
}

json::object read_json_object(const std::string& path, DuplicateKeys duplicates) {
  const MappedFile file(path);
  FOVEAL_CHECK(file.bytes().size() <= kMaxFileBytes, ErrorKind::kCorruptFile, path,
               "got {} bytes of JSON; need at most {}", file.bytes().size(), kMaxFileBytes);
  return parse_json_object(
      {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()}, path, duplicates);
}

}  // namespace foveal::model

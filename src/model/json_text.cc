#include "model/json_text.h"

#include <array>
#include <boost/json/parse.hpp>

#include "base/check.h"
#include "base/json_scan.h"

namespace foveal::model {
namespace json = boost::json;
namespace {

constexpr size_t kMaxDepth = 32;

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
  const JsonScan scan = scan_json(text, kMaxDepth);
  FOVEAL_CHECK(scan.problem.empty(), ErrorKind::kCorruptFile, source,
               "got JSON with '{}'; need valid JSON", scan.problem);
  FOVEAL_CHECK(!scan.duplicate, ErrorKind::kCorruptFile, source,
               "got key '{}' twice in one JSON object; need it once", scan.duplicate.value_or(""));
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

}  // namespace foveal::model

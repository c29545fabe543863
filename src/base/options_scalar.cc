#include "base/options_scalar.h"

#include <charconv>
#include <cmath>

#include "base/check.h"

namespace foveal {
namespace {

// `+5` is a number in YAML but not to from_chars.
std::string_view without_plus(std::string_view text) {
  if (text.size() > 1 && text[0] == '+' && text[1] != '-') text.remove_prefix(1);
  return text;
}

template <class T>
bool parse_whole(std::string_view text, T& out) {
  text = without_plus(text);
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  return error == std::errc() && end == text.data() + text.size();
}

bool has_leading_zero(std::string_view text) {
  if (!text.empty() && (text[0] == '+' || text[0] == '-')) text.remove_prefix(1);
  return text.size() > 1 && text[0] == '0';
}

const std::string& plain_scalar(const ConfigNode& node, std::string_view path,
                                std::string_view need) {
  if (node.kind != ConfigNode::Kind::kScalar || node.quoted) refuse(node, path, need);
  return node.text;
}

template <class T>
T read_integer(const ConfigNode& node, std::string_view path, std::string_view need) {
  const std::string& text = plain_scalar(node, path, need);
  T value = 0;
  if (is_integer_text(text)) {
    if (has_leading_zero(text) || !parse_whole(text, value)) refuse(node, path, need);
    return value;
  }
  // Beyond 2^53 a double no longer says which integer was meant.
  double real = 0;
  if (!parse_whole(text, real) || !(std::abs(real) <= 0x1p53) || real != std::floor(real) ||
      (real < 0 && std::is_unsigned_v<T>)) {
    refuse(node, path, need);
  }
  return static_cast<T>(real);
}

}  // namespace

void refuse(const ConfigNode& node, std::string_view path, std::string_view need) {
  const bool text_for_number = node.kind == ConfigNode::Kind::kScalar && node.quoted;
  fail(ErrorKind::kInvalidArgument, where(node, path), "got {}{}; need {}",
       text_for_number ? "the text " : "", shown(node), need);
}

bool is_integer_text(std::string_view text) {
  if (!text.empty() && (text[0] == '+' || text[0] == '-')) text.remove_prefix(1);
  return !text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos;
}

bool read_bool(const ConfigNode& node, std::string_view path, std::string_view need) {
  const std::string& text = plain_scalar(node, path, need);
  if (text == "true" || text == "True" || text == "TRUE") return true;
  if (text == "false" || text == "False" || text == "FALSE") return false;
  refuse(node, path, need);
}

int64_t read_int(const ConfigNode& node, std::string_view path, std::string_view need) {
  return read_integer<int64_t>(node, path, need);
}

uint64_t read_uint(const ConfigNode& node, std::string_view path, std::string_view need) {
  return read_integer<uint64_t>(node, path, need);
}

double read_double(const ConfigNode& node, std::string_view path, std::string_view need) {
  const std::string& text = plain_scalar(node, path, need);
  double value = 0;
  if (!parse_whole(text, value) || !std::isfinite(value)) refuse(node, path, need);
  return value;
}

std::string read_string(const ConfigNode& node, std::string_view path, std::string_view need) {
  if (node.kind != ConfigNode::Kind::kScalar) refuse(node, path, need);
  FOVEAL_CHECK(node.text.find('\0') == std::string::npos, ErrorKind::kInvalidArgument,
               where(node, path), "got text with a zero byte; need {}", need);
  return node.text;
}

}  // namespace foveal

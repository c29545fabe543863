#include "base/options_node.h"

#include <algorithm>
#include <charconv>
#include <utility>

#include "base/check.h"

namespace foveal {
namespace {

constexpr size_t kMaxPathDepth = 16;
constexpr size_t kMaxPathBytes = 256;

std::vector<std::string_view> split_path(std::string_view path, const std::string& at) {
  std::vector<std::string_view> parts;
  size_t begin = 0;
  while (true) {
    const size_t end = path.find('.', begin);
    parts.push_back(path.substr(begin, end == std::string_view::npos ? end : end - begin));
    FOVEAL_CHECK(!parts.back().empty() && parts.size() <= kMaxPathDepth,
                 ErrorKind::kInvalidArgument, at, "got path '{}'; need names joined by dots",
                 printable(path));
    if (end == std::string_view::npos) return parts;
    begin = end + 1;
  }
}

bool is_phase(std::string_view key) { return key == "prefill" || key == "decode"; }

// A number that stands for both phases becomes one for each, so that setting one keeps the other.
void split_phases(ConfigNode& node) {
  ConfigNode both = node;
  node = ConfigNode::map(both.origin);
  node.entries = {{"prefill", both}, {"decode", both}};
}

ConfigNode& step_into_list(ConfigNode& list, std::string_view part, std::string_view path,
                           const std::string& at) {
  const size_t size = list.items.size();
  size_t idx = 0;
  const auto [end, error] = std::from_chars(part.data(), part.data() + part.size(), idx);
  FOVEAL_CHECK(
      error == std::errc() && end == part.data() + part.size() && idx < size,
      ErrorKind::kInvalidArgument, at, "got path '{}' into a list of {}; need {}", printable(path),
      size,
      size == 0 ? "a list that is not empty"
                : fmt::format("an index from 0 to {} in place of '{}'", size - 1, printable(part)));
  return list.items[idx];
}

bool is_index(std::string_view part) {
  return part.find_first_not_of("0123456789") == std::string_view::npos;
}

}  // namespace

ConfigNode ConfigNode::scalar(std::string text, Origin origin, bool quoted) {
  ConfigNode node;
  node.kind = Kind::kScalar;
  node.text = std::move(text);
  node.quoted = quoted;
  node.origin = std::move(origin);
  return node;
}

ConfigNode ConfigNode::map(Origin origin) {
  ConfigNode node;
  node.kind = Kind::kMap;
  node.origin = std::move(origin);
  return node;
}

const ConfigNode* ConfigNode::find(std::string_view key) const {
  for (const auto& [name, value] : entries) {
    if (name == key) return &value;
  }
  return nullptr;
}

ConfigNode* ConfigNode::find(std::string_view key) {
  return const_cast<ConfigNode*>(std::as_const(*this).find(key));
}

std::string printable(std::string_view text, size_t max_bytes) {
  size_t end = std::min(text.size(), max_bytes);
  if (end < text.size()) {  // never end in half a character
    while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xc0U) == 0x80U) --end;
  }
  std::string out;
  for (const char c : text.substr(0, end)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7f) {
      out += fmt::format("\\x{:02x}", byte);
    } else {
      out += c;
    }
  }
  if (end < text.size()) out += "...";
  return out;
}

std::string where(const ConfigNode& node, std::string_view path) {
  std::string out;
  if (node.origin.source) {
    out = printable(*node.origin.source, kMaxPathBytes);
    if (node.origin.line > 0) out += fmt::format(":{}", node.origin.line);
    if (node.origin.names_field) return out;
  }
  if (path.empty()) return out.empty() ? "config" : out;
  if (!out.empty()) out += ' ';
  return out + printable(path, kMaxPathBytes);
}

std::string shown(const ConfigNode& node) {
  switch (node.kind) {
    case ConfigNode::Kind::kNull:
      return "null";
    case ConfigNode::Kind::kList:
      return "a list";
    case ConfigNode::Kind::kMap:
      return "a mapping";
    case ConfigNode::Kind::kScalar:
      break;
  }
  if (node.quoted || node.text.empty()) return fmt::format("'{}'", printable(node.text));
  return printable(node.text);
}

std::string join_path(std::string_view path, std::string_view key) {
  if (path.empty()) return std::string(key);
  return fmt::format("{}.{}", path, key);
}

void assign_path(ConfigNode& root, std::string_view path, ConfigNode value) {
  const std::string at = value.origin.source ? printable(*value.origin.source) : "config";
  ConfigNode* node = &root;
  for (const std::string_view part : split_path(path, at)) {
    using Kind = ConfigNode::Kind;
    if (node->kind == Kind::kList && node->items.size() == 1 && !is_index(part)) {
      node = node->items.data();
    }
    if (node->kind == Kind::kNull) *node = ConfigNode::map(value.origin);
    if (node->kind == Kind::kScalar && is_phase(part)) split_phases(*node);
    if (node->kind == Kind::kList) {
      node = &step_into_list(*node, part, path, at);
      continue;
    }
    FOVEAL_CHECK(node->kind == Kind::kMap, ErrorKind::kInvalidArgument, at,
                 "got path '{}' through {}; need a field that has fields", printable(path),
                 shown(*node));
    if (ConfigNode* found = node->find(part)) {
      node = found;
    } else {
      node->entries.push_back({std::string(part), ConfigNode()});
      node = &node->entries.back().value;
    }
  }
  *node = std::move(value);
}

}  // namespace foveal

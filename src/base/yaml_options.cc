#include "base/yaml_options.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>

#include "base/check.h"
#include "base/config_fields.h"

namespace foveal {
namespace {

constexpr size_t kMaxBytes = size_t{256} * 1024;
constexpr size_t kMaxDepth = 32;
constexpr size_t kMaxNodes = 10000;

// Builds the tree from the parser's events. yaml-cpp's own tree would keep only the first of two
// equal keys and say nothing.
class TreeBuilder : public YAML::EventHandler {
 public:
  TreeBuilder(std::string_view text, std::shared_ptr<const std::string> source)
      : text_(text), source_(std::move(source)) {}
  ConfigNode take() { return std::move(root_); }

  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    check_colon();
    ConfigNode node;
    node.origin = origin(mark);
    add(std::move(node), anchor);
  }

  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    const auto found = anchors_.find(anchor);
    if (found == anchors_.end())
      refuse(mark, "an alias to a value that contains it", "plain values");
    const Anchored& target = found->second;
    count(mark, target.size);
    if (open_.size() + target.depth > kMaxDepth) refuse_depth(mark);
    place(target.node, target.size, target.depth);
  }

  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    const bool is_text = tag == "!" || tag == "tag:yaml.org,2002:str";
    if (!is_text && tag != "?" && !tag.empty()) refuse_tag(mark, tag);
    check_quotes(mark);
    scalar_pos_ = mark.pos;
    ConfigNode node = ConfigNode::scalar(value, origin(mark), /*quoted=*/is_text);
    if (!is_text &&
        (value.empty() || value == "~" || value == "null" || value == "Null" || value == "NULL")) {
      node.kind = ConfigNode::Kind::kNull;
    }
    add(std::move(node), anchor);
  }

  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    begin(ConfigNode::Kind::kList, mark, tag, anchor);
  }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    begin(ConfigNode::Kind::kMap, mark, tag, anchor);
  }
  void OnSequenceEnd() override { end(); }
  void OnMapEnd() override { end(); }

 private:
  struct Open {
    ConfigNode node;
    YAML::anchor_t anchor = 0;
    size_t size = 1;   // nodes within, itself included
    size_t depth = 1;  // levels within, itself included
    bool has_key = false;
    std::string key;
    int32_t key_line = 0;
    int key_pos = 0;
  };
  struct Anchored {
    ConfigNode node;
    size_t size = 1;
    size_t depth = 1;
  };

  Origin origin(const YAML::Mark& mark) const {
    return {.source = source_, .line = mark.line < 0 ? 0 : mark.line + 1};
  }

  [[noreturn]] void refuse(const YAML::Mark& mark, std::string_view got,
                           std::string_view need) const {
    ConfigNode at;
    at.origin = origin(mark);
    fail(ErrorKind::kInvalidArgument, where(at, path()), "got {}; need {}", got, need);
  }
  [[noreturn]] void refuse_depth(const YAML::Mark& mark) const {
    refuse(mark, "deeper nesting", fmt::format("at most {} levels", kMaxDepth));
  }
  [[noreturn]] void refuse_tag(const YAML::Mark& mark, const std::string& tag) const {
    refuse(mark, fmt::format("tag '{}'", printable(tag)), "plain values");
  }

  // yaml-cpp takes the end of the file for a closing quote, which hides a truncated file.
  void check_quotes(const YAML::Mark& mark) const {
    if (mark.pos < 0 || static_cast<size_t>(mark.pos) >= text_.size()) return;
    const char quote = text_[static_cast<size_t>(mark.pos)];
    if (quote != '"' && quote != '\'') return;
    for (size_t pos = static_cast<size_t>(mark.pos) + 1; pos < text_.size(); ++pos) {
      const bool escapes = quote == '"' ? text_[pos] == '\\' : text_.substr(pos).starts_with("''");
      if (escapes) {
        ++pos;
      } else if (text_[pos] == quote) {
        return;
      }
    }
    refuse(mark, "a quote that is not closed", "a closing quote");
  }

  // yaml-cpp reads a word alone as a key without a value; the writer has more likely left out ":
  // x".
  void check_colon() const {
    if (open_.empty() || !open_.back().has_key) return;
    const Open& parent = open_.back();
    const auto pos = static_cast<size_t>(parent.key_pos);
    if (pos > text_.size() || !text_.substr(pos).starts_with(parent.key)) return;  // a quoted key
    const size_t next = text_.find_first_not_of(" \t", pos + parent.key.size());
    if (next != std::string_view::npos && text_[next] == ':') return;
    YAML::Mark mark;
    mark.line = parent.key_line - 1;
    refuse(mark, "a key without a value", "key: value");
  }

  std::string path() const {
    std::string out;
    for (const Open& open : open_) {
      if (open.has_key) out = join_path(out, open.key);
      if (open.node.kind == ConfigNode::Kind::kList) {
        out = join_path(out, fmt::format("{}", open.node.items.size()));
      }
    }
    return out;
  }

  void count(const YAML::Mark& mark, size_t nodes) {
    num_nodes_ += nodes;
    if (num_nodes_ > kMaxNodes) {
      refuse(mark, "more values", fmt::format("at most {}, aliases expanded", kMaxNodes));
    }
  }

  void begin(ConfigNode::Kind kind, const YAML::Mark& mark, const std::string& tag,
             YAML::anchor_t anchor) {
    if (tag != "?" && tag != "!" && !tag.empty()) refuse_tag(mark, tag);
    count(mark, 1);
    if (open_.size() >= kMaxDepth) refuse_depth(mark);
    Open open;
    open.node.kind = kind;
    open.node.origin = origin(mark);
    open.anchor = anchor;
    open_.push_back(std::move(open));
  }

  void end() {
    Open done = std::move(open_.back());
    open_.pop_back();
    if (done.anchor != 0) anchors_[done.anchor] = {done.node, done.size, done.depth};
    place(std::move(done.node), done.size, done.depth);
  }

  void add(ConfigNode node, YAML::anchor_t anchor) {
    YAML::Mark mark;
    mark.line = node.origin.line - 1;
    count(mark, 1);
    if (anchor != 0) anchors_[anchor] = {node, 1, 1};
    place(std::move(node), 1, 1);
  }

  void place(ConfigNode node, size_t size, size_t depth) {
    if (open_.empty()) {
      root_ = std::move(node);
      return;
    }
    Open& parent = open_.back();
    parent.size += size;
    parent.depth = std::max(parent.depth, depth + 1);
    if (parent.node.kind == ConfigNode::Kind::kList) {
      parent.node.items.push_back(std::move(node));
    } else if (!parent.has_key) {
      take_key(parent, node);
    } else {
      // The parser places an empty value where it noticed the emptiness, lines later.
      if (node.kind == ConfigNode::Kind::kNull) node.origin.line = parent.key_line;
      parent.node.entries.push_back({std::move(parent.key), std::move(node)});
      parent.key.clear();
      parent.has_key = false;
    }
  }

  void take_key(Open& parent, const ConfigNode& node) const {
    YAML::Mark mark;
    mark.line = node.origin.line - 1;
    if (node.kind != ConfigNode::Kind::kScalar) {
      refuse(mark, fmt::format("{} as a key", shown(node)), "a name");
    }
    // Taken as a field it would only be said to be unknown, or hide which fields are missing.
    if (node.text == "<<") refuse(mark, "merge key '<<'", "the fields themselves");
    if (const ConfigNode* earlier = parent.node.find(node.text)) {
      const std::string got =
          fmt::format("key '{}' again after line {}", printable(node.text), earlier->origin.line);
      refuse(mark, got, "each key once");
    }
    parent.key = node.text;
    parent.key_line = node.origin.line;
    parent.key_pos = scalar_pos_;
    parent.has_key = true;
  }

  std::string_view text_;
  std::shared_ptr<const std::string> source_;
  int scalar_pos_ = 0;
  std::vector<Open> open_;
  std::map<YAML::anchor_t, Anchored> anchors_;
  ConfigNode root_;
  size_t num_nodes_ = 0;
};

// Bytes of the UTF-8 sequence at the start of `text`, or 0: overlong forms, surrogates and values
// above U+10FFFF are not UTF-8.
size_t utf8_length(std::string_view text) {
  const auto at = [text](size_t idx) { return static_cast<unsigned char>(text[idx]); };
  const unsigned char lead = at(0);
  if (lead < 0x80) return 1;
  const size_t length = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
  if (lead < 0xc2 || lead > 0xf4 || text.size() < length) return 0;
  for (size_t idx = 1; idx < length; ++idx) {
    if ((at(idx) & 0xc0U) != 0x80U) return 0;
  }
  if (lead == 0xe0 && at(1) < 0xa0) return 0;
  if (lead == 0xed && at(1) > 0x9f) return 0;
  if (lead == 0xf0 && at(1) < 0x90) return 0;
  if (lead == 0xf4 && at(1) > 0x8f) return 0;
  return length;
}

void check_text(std::string_view text, const std::string& source) {
  const std::string at = printable(source);
  FOVEAL_CHECK(text.size() <= kMaxBytes, ErrorKind::kInvalidArgument, at,
               "got {} bytes; need at most {}", text.size(), kMaxBytes);
  int line = 1;
  for (size_t pos = 0; pos < text.size();) {
    const size_t length = utf8_length(text.substr(pos));
    const auto byte = static_cast<unsigned char>(text[pos]);
    const bool control =
        (byte < 0x20 && byte != '\n' && byte != '\r' && byte != '\t') || byte == 0x7f;
    FOVEAL_CHECK(length > 0 && !control, ErrorKind::kInvalidArgument,
                 fmt::format("{}:{}", at, line), "got byte 0x{:02x}; need UTF-8 text", byte);
    if (byte == '\n') ++line;
    pos += length;
  }
}

}  // namespace

ConfigNode parse_yaml(std::string_view text, std::string_view source) {
  const auto name = std::make_shared<const std::string>(source);
  if (text.starts_with("\xef\xbb\xbf")) text.remove_prefix(3);  // marks count from after it
  check_text(text, *name);
  TreeBuilder builder(text, name);
  try {
    std::istringstream stream{std::string(text)};
    YAML::Parser parser(stream);
    if (!parser.HandleNextDocument(builder)) return {};
    ConfigNode root = builder.take();
    TreeBuilder second(text, name);
    FOVEAL_CHECK(!parser.HandleNextDocument(second), ErrorKind::kInvalidArgument, printable(*name),
                 "got more than one YAML document; need one");
    return root;
  } catch (const YAML::Exception& error) {
    const int line = error.mark.line < 0 ? 1 : error.mark.line + 1;
    fail(ErrorKind::kInvalidArgument, fmt::format("{}:{}", printable(*name), line),
         "got a syntax error ({}); need YAML", error.msg);
  }
}

ConfigNode load_yaml(const std::string& path) {
  const std::string name = std::filesystem::path(path).filename().string();
  std::error_code error;
  FOVEAL_CHECK(!std::filesystem::is_directory(path, error), ErrorKind::kNotFound, "config",
               "got folder '{}'; need a YAML file", printable(path, 400));
  std::ifstream file(path, std::ios::binary);
  FOVEAL_CHECK(file.is_open(), ErrorKind::kNotFound, "config",
               "got '{}', which cannot be opened; need a YAML file", printable(path, 400));
  std::string text(kMaxBytes + 1, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  FOVEAL_CHECK(!file.bad(), ErrorKind::kIo, "config",
               "got a read error from '{}'; need a YAML file", printable(path, 400));
  text.resize(static_cast<size_t>(file.gcount()));
  return parse_yaml(text, name);
}

LlmConfig llm_config_from_yaml(std::string_view text, std::string_view source) {
  LlmConfig config;
  bind_options(describe(config), parse_yaml(text, source));
  return config;
}

}  // namespace foveal

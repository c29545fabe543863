#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace foveal {

/// Where a value was written, for error messages.
struct Origin {
  std::shared_ptr<const std::string>
      source;                ///< file name, "--set", "--prefill-chunk"; may be null
  int32_t line = 0;          ///< from 1; 0: the source has no lines
  bool names_field = false;  ///< the source says which field it is, as a flag does
};

/// An unresolved configuration value: what YAML, a flag, `--set` (and later a JSON body) turn into
/// before a field table gives it a type. Map entries keep their order and have distinct keys.
struct ConfigNode {
  struct Entry;
  enum class Kind : uint8_t { kNull, kScalar, kList, kMap };
  Kind kind = Kind::kNull;
  std::string text;     ///< of a scalar
  bool quoted = false;  ///< a quoted scalar is a string whatever it looks like
  std::vector<ConfigNode> items;
  std::vector<Entry> entries;
  Origin origin;

  static ConfigNode scalar(std::string text, Origin origin, bool quoted = false);
  static ConfigNode map(Origin origin = {});
  const ConfigNode* find(std::string_view key) const;
  ConfigNode* find(std::string_view key);
};

struct ConfigNode::Entry {
  std::string key;
  ConfigNode value;
};

/// `extra.yaml:7 kv_cache_config.dtype`, `--set kv_cache_config.dtype` or `--kv-dtype`: the
/// `[where]` of an error. Printable and bounded whatever the file says.
std::string where(const ConfigNode& node, std::string_view path);

/// What an error says it got: the scalar, shortened, or the kind of a list or map.
std::string shown(const ConfigNode& node);

/// Text with control characters escaped; of more than `max_bytes`, the beginning and "...".
std::string printable(std::string_view text, size_t max_bytes = 80);

std::string join_path(std::string_view path, std::string_view key);

/// Sets `path` (keys and list indices joined by dots) in the tree, replacing what was there and
/// making the maps on the way. A list of one is stepped into without an index. A phase of a number
/// that stood for both phases leaves the other phase as it was.
/// Throws kInvalidArgument for a malformed path or one that leads through a scalar.
void assign_path(ConfigNode& root, std::string_view path, ConfigNode value);

}  // namespace foveal

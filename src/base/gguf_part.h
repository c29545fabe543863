#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace foveal {

/// A part's place in a model that llama.cpp's gguf-split cut into files, by the end of its name:
/// NAME-00002-of-00009.gguf.
struct GgufPart {
  std::string name;  ///< NAME, with its folder
  int64_t number = 1;
  int64_t count = 1;

  std::string path(int64_t other) const;  ///< of another part
  bool same_model(const GgufPart& other) const {
    return name == other.name && count == other.count;
  }
};

/// Nothing where the name does not end so.
std::optional<GgufPart> gguf_part(std::string_view path);

}  // namespace foveal

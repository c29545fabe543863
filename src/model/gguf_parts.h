#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "model/gguf.h"

namespace foveal::model {

/// A part's place in a model that llama.cpp's gguf-split cut into files, by the end of its name:
/// NAME-00002-of-00009.gguf.
struct GgufPart {
  std::string name;  ///< NAME, with its folder
  int64_t number = 1;
  int64_t count = 1;

  std::string path(int64_t other) const;  ///< of another part
};

/// Nothing where the name does not end so.
std::optional<GgufPart> gguf_part(std::string_view path);

/// How many files the model of `first`, its first file, is in. Throws kCorruptFile or kUnsupported
/// where that is not the first one, or its name is not as above.
int64_t count_gguf_parts(const GgufFile& first, const std::string& path);

/// Adds the tensors of part `number`. Throws kCorruptFile where the file says it is another, or of
/// another model.
void add_gguf_part(GgufFile& to, const GgufFile& part, int64_t number, const std::string& path);

/// Throws kCorruptFile where the parts together have not as many tensors as they say.
void check_gguf_parts(const GgufFile& all, const std::string& path);

}  // namespace foveal::model

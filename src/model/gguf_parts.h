#pragma once

#include <cstdint>
#include <string>

#include "base/gguf_part.h"
#include "model/gguf.h"

namespace foveal::model {

/// How many files the model of `first`, its first file, is in. Throws kCorruptFile or kUnsupported
/// where that is not the first one, or its name is not as above.
int64_t count_gguf_parts(const GgufFile& first, const std::string& path);

/// Adds the tensors of part `number`. Throws kCorruptFile where the file says it is another, or of
/// another model.
void add_gguf_part(GgufFile& to, const GgufFile& part, int64_t number, const std::string& path);

/// Throws kCorruptFile where the parts together have not as many tensors as they say.
void check_gguf_parts(const GgufFile& all, const std::string& path);

}  // namespace foveal::model

#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/dtype.h"

namespace foveal::model {

/// A tensor to write: contiguous, outermost extent first. Does not own its data.
struct NamedTensor {
  std::string name;
  DType dtype = DType::kF32;  ///< kF32 or kI32
  std::vector<int64_t> shape;
  std::span<const std::byte> data;
};

/// Writes a safetensors file in the given order without metadata, so that equal tensors give equal
/// bytes. The data goes to a file beside `path` first, which is then renamed: `path` is never half
/// written. Throws kInvalidArgument (a name twice, another dtype, data that does not fit the shape)
/// or kIo, which names `flag`, where the path came from, or the path.
void write_safetensors(const std::string& path, std::span<const NamedTensor> tensors,
                       std::string_view flag = {});

}  // namespace foveal::model

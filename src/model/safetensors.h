#pragma once

#include <cstddef>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/tensor_view.h"

namespace foveal::model {

struct SafetensorsTensor {
  std::string name;
  TensorView view;
  uint64_t bytes = 0;
};

/// Parses one safetensors file: 8 bytes of header length, the JSON header, then the data
/// (huggingface/safetensors, README "Format"). Tensors come back in the order of their data, which
/// must fill the rest of the file without gap or overlap. Every number is checked against the size
/// of `bytes` before it is used. Dtypes F32, F16, BF16, F8_E4M3, F64, I8, I16, I32, I64, U8, BOOL.
/// `bytes` must outlive the result; data may be unaligned for its type. Throws kCorruptFile, or
/// kUnsupported for another dtype.
std::vector<SafetensorsTensor> parse_safetensors(std::span<const std::byte> bytes,
                                                 const std::string& source);

/// Parses the text of model.safetensors.index.json: tensor name to file name. File names are plain
/// names, never paths. Throws kCorruptFile.
std::map<std::string, std::string> parse_safetensors_index(std::string_view text,
                                                           const std::string& source);

/// The name safetensors uses ("F32", "BF16"); empty for types it does not have.
std::string_view safetensors_dtype_name(DType dtype);

}  // namespace foveal::model

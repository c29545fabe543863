#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/tensor_view.h"

namespace foveal::model {

/// Value types of GGUF metadata, numbered as in the file.
enum class GgufType : uint32_t {
  kU8 = 0,
  kI8 = 1,
  kU16 = 2,
  kI16 = 3,
  kU32 = 4,
  kI32 = 5,
  kF32 = 6,
  kBool = 7,
  kString = 8,
  kArray = 9,
  kU64 = 10,
  kI64 = 11,
  kF64 = 12,
};
std::string_view gguf_type_name(GgufType type);
/// Bytes of one value; nothing for strings and arrays, whose values have lengths of their own.
std::optional<size_t> gguf_scalar_bytes(GgufType type);

/// One metadata value: a view into the file, already checked to lie inside it.
struct GgufValue {
  GgufType type = GgufType::kU8;
  GgufType element = GgufType::kU8;  ///< of an array
  uint64_t count = 1;                ///< elements of an array, else 1
  std::span<const std::byte> bytes;  ///< the value, or an array's elements one after the other

  /// An integer of any width or a bool; nothing for other types or beyond int64.
  std::optional<int64_t> as_int() const;
  /// Any number.
  std::optional<double> as_double() const;
  std::optional<bool> as_bool() const;
  std::optional<std::string_view> as_string() const;
  /// Arrays; nothing when the element type does not fit. A scalar counts as an array of one.
  std::optional<std::vector<int64_t>> as_ints() const;
  std::optional<std::vector<double>> as_doubles() const;
  std::optional<std::vector<std::string_view>> as_strings() const;
};

struct GgufTensor {
  std::string_view name;
  TensorView view;  ///< shape reversed: outermost first
  uint64_t bytes = 0;
};

/// A parsed GGUF file: views into the bytes it was parsed from.
struct GgufFile {
  uint32_t version = 0;
  uint64_t alignment = 32;
  std::map<std::string_view, GgufValue> metadata;  ///< a tree: keys may be chosen to collide
  std::vector<GgufTensor> tensors;                 ///< in file order

  const GgufValue* find(std::string_view key) const;
};

/// Parses GGUF version 2 or 3, little endian (ggml's docs/gguf.md). `source` names the file in
/// errors. Every count, length, offset and shape is checked against the size of `bytes` before it
/// is used or anything is allocated for it. `bytes` must outlive the result and start at an address
/// that is a multiple of 8. Throws kCorruptFile, or kUnsupported for other versions, big-endian
/// files and tensor types Foveal cannot read.
GgufFile parse_gguf(std::span<const std::byte> bytes, const std::string& source);

}  // namespace foveal::model

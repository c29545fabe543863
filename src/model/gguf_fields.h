#pragma once

#include <algorithm>
#include <cmath>
#include <optional>
#include <string>
#include <string_view>

#include "base/check.h"
#include "model/gguf.h"

namespace foveal::model {

/// Null when absent.
inline const GgufTensor* find_tensor(const GgufFile& file, std::string_view name) {
  const auto found = std::find_if(file.tensors.begin(), file.tensors.end(),
                                  [&](const GgufTensor& tensor) { return tensor.name == name; });
  return found == file.tensors.end() ? nullptr : &*found;
}

/// Typed, bounded reading of GGUF metadata: nothing when the key is absent, kCorruptFile naming the
/// key when its value is of the wrong type or out of bounds. Keys get the prefix given.
class GgufFields {
 public:
  GgufFields(const GgufFile& file, std::string prefix, const std::string& source)
      : file_(file), prefix_(std::move(prefix)), source_(source) {}

  const std::string& source() const { return source_; }
  const GgufValue* find(std::string_view key) const {
    return file_.find(prefix_ + std::string(key));
  }

  /// A number, or an array (one a layer) whose entries are all the same.
  std::optional<int64_t> integer(std::string_view key, int64_t least, int64_t most) const {
    const GgufValue* value = find(key);
    if (value == nullptr) return std::nullopt;
    const auto all = value->as_ints();
    FOVEAL_CHECK(all && !all->empty(), ErrorKind::kCorruptFile, source_,
                 "got a {} in {}{}; need a whole number", gguf_type_name(value->type), prefix_,
                 key);
    for (const int64_t item : *all) {
      FOVEAL_CHECK(item >= least && item <= most, ErrorKind::kCorruptFile, source_,
                   "got {}{} {}; need {} to {}", prefix_, key, item, least, most);
      FOVEAL_CHECK(item == all->front(), ErrorKind::kUnsupported, source_,
                   "got {}{} that differs by layer; need one value", prefix_, key);
    }
    return all->front();
  }

  int32_t size(std::string_view key, int32_t most) const {
    const auto value = integer(key, 1, most);
    FOVEAL_CHECK(value, ErrorKind::kCorruptFile, source_, "got no {}{}; need it", prefix_, key);
    return static_cast<int32_t>(*value);
  }

  int32_t integer_or(std::string_view key, int64_t least, int32_t most, int32_t fallback) const {
    return static_cast<int32_t>(integer(key, least, most).value_or(fallback));
  }

  std::optional<double> number(std::string_view key, double least, double most) const {
    const GgufValue* value = find(key);
    if (value == nullptr) return std::nullopt;
    const auto got = value->as_double();
    FOVEAL_CHECK(got && *got >= least && *got <= most, ErrorKind::kCorruptFile, source_,
                 "got {}{} {}; need a number from {} to {}", prefix_, key,
                 got.value_or(std::nan("")), least, most);
    return got;
  }

  std::optional<std::string_view> text(std::string_view key) const {
    const GgufValue* value = find(key);
    if (value == nullptr) return std::nullopt;
    const auto got = value->as_string();
    FOVEAL_CHECK(got, ErrorKind::kCorruptFile, source_, "got a {} in {}{}; need a string",
                 gguf_type_name(value->type), prefix_, key);
    return got;
  }

  std::optional<bool> boolean(std::string_view key) const {
    const GgufValue* value = find(key);
    if (value == nullptr) return std::nullopt;
    const auto got = value->as_bool();
    FOVEAL_CHECK(got, ErrorKind::kCorruptFile, source_, "got a {} in {}{}; need a bool",
                 gguf_type_name(value->type), prefix_, key);
    return got;
  }

 private:
  const GgufFile& file_;
  std::string prefix_;
  const std::string& source_;
};

}  // namespace foveal::model

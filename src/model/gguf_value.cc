#include <array>
#include <bit>
#include <cstring>
#include <limits>

#include "model/gguf.h"

namespace foveal::model {
namespace {

static_assert(std::endian::native == std::endian::little, "GGUF values are read in place");

template <class T>
T load(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof(T));
  return value;
}

std::optional<int64_t> load_int(GgufType type, const std::byte* from) {
  switch (type) {
    case GgufType::kU8:
      return load<uint8_t>(from);
    case GgufType::kI8:
      return load<int8_t>(from);
    case GgufType::kU16:
      return load<uint16_t>(from);
    case GgufType::kI16:
      return load<int16_t>(from);
    case GgufType::kU32:
      return load<uint32_t>(from);
    case GgufType::kI32:
      return load<int32_t>(from);
    case GgufType::kI64:
      return load<int64_t>(from);
    case GgufType::kBool:
      return load<uint8_t>(from) != 0 ? 1 : 0;
    case GgufType::kU64: {
      const auto value = load<uint64_t>(from);
      if (value > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) return std::nullopt;
      return static_cast<int64_t>(value);
    }
    default:
      return std::nullopt;
  }
}

std::optional<double> load_double(GgufType type, const std::byte* from) {
  if (type == GgufType::kF32) return load<float>(from);
  if (type == GgufType::kF64) return load<double>(from);
  if (const auto value = load_int(type, from)) return static_cast<double>(*value);
  return std::nullopt;
}

template <class T, class Load>
std::optional<std::vector<T>> load_all(const GgufValue& value, Load load_one) {
  const GgufType type = value.type == GgufType::kArray ? value.element : value.type;
  const std::optional<size_t> step = gguf_scalar_bytes(type);
  if (!step) return std::nullopt;
  std::vector<T> out;
  out.reserve(value.count);
  for (uint64_t idx = 0; idx < value.count; ++idx) {
    const auto item = load_one(type, value.bytes.data() + idx * *step);
    if (!item) return std::nullopt;
    out.push_back(*item);
  }
  return out;
}

}  // namespace

std::string_view gguf_type_name(GgufType type) {
  static constexpr std::array<std::string_view, 13> kNames{
      "uint8", "int8",   "uint16", "int16",  "uint32", "int32",  "float32",
      "bool",  "string", "array",  "uint64", "int64",  "float64"};
  const auto idx = static_cast<size_t>(type);
  return idx < kNames.size() ? kNames[idx] : "unknown type";
}

std::optional<size_t> gguf_scalar_bytes(GgufType type) {
  switch (type) {
    case GgufType::kU8:
    case GgufType::kI8:
    case GgufType::kBool:
      return 1;
    case GgufType::kU16:
    case GgufType::kI16:
      return 2;
    case GgufType::kU32:
    case GgufType::kI32:
    case GgufType::kF32:
      return 4;
    case GgufType::kU64:
    case GgufType::kI64:
    case GgufType::kF64:
      return 8;
    default:
      return std::nullopt;
  }
}

std::optional<int64_t> GgufValue::as_int() const { return load_int(type, bytes.data()); }

std::optional<double> GgufValue::as_double() const { return load_double(type, bytes.data()); }

std::optional<bool> GgufValue::as_bool() const {
  if (type != GgufType::kBool) return std::nullopt;
  return load<uint8_t>(bytes.data()) != 0;
}

std::optional<std::string_view> GgufValue::as_string() const {
  if (type != GgufType::kString) return std::nullopt;
  return std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

std::optional<std::vector<int64_t>> GgufValue::as_ints() const {
  return load_all<int64_t>(*this, load_int);
}

std::optional<std::vector<double>> GgufValue::as_doubles() const {
  return load_all<double>(*this, load_double);
}

std::optional<std::vector<std::string_view>> GgufValue::as_strings() const {
  if (type != GgufType::kArray || element != GgufType::kString) return std::nullopt;
  std::vector<std::string_view> out;
  out.reserve(count);
  const std::byte* at = bytes.data();
  for (uint64_t idx = 0; idx < count; ++idx) {  // lengths were checked when the file was parsed
    const auto length = load<uint64_t>(at);
    out.emplace_back(reinterpret_cast<const char*>(at + sizeof length), length);
    at += sizeof length + length;
  }
  return out;
}

}  // namespace foveal::model

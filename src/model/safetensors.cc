#include "model/safetensors.h"

#include <algorithm>
#include <array>

#include <boost/json/serialize.hpp>
#include "base/check.h"
#include "base/math.h"
#include "model/byte_reader.h"
#include "model/json_text.h"

namespace foveal::model {
namespace json = boost::json;
namespace {

constexpr uint64_t kMaxHeader = 100'000'000;  // the reference implementation's limit
constexpr size_t kMaxDims = 8;

struct DTypeName {
  std::string_view name;
  DType dtype;
};

constexpr std::array<DTypeName, 11> kDTypes{{{"F32", DType::kF32},
                                             {"F16", DType::kF16},
                                             {"BF16", DType::kBF16},
                                             {"F8_E4M3", DType::kF8E4M3},
                                             {"F64", DType::kF64},
                                             {"I8", DType::kI8},
                                             {"I16", DType::kI16},
                                             {"I32", DType::kI32},
                                             {"I64", DType::kI64},
                                             {"U8", DType::kU8},
                                             {"BOOL", DType::kBool}}};

int64_t count_from(const json::value& value, const std::string& source, std::string_view tensor,
                   std::string_view field) {
  const auto* number = value.if_int64();
  FOVEAL_CHECK(number != nullptr && *number >= 0, ErrorKind::kCorruptFile, source,
               "got {} in '{}' of '{}'; need whole numbers from 0 to 2^63-1",
               json::serialize(value), field, tensor);
  return *number;
}

const json::array& list_from(const json::object& entry, const std::string& source,
                             std::string_view tensor, std::string_view field) {
  const auto* value = entry.if_contains({field.data(), field.size()});
  FOVEAL_CHECK(value != nullptr && value->is_array(), ErrorKind::kCorruptFile, source,
               "got no list '{}' for '{}'; need one", field, tensor);
  return value->get_array();
}

DType dtype_from(const json::object& entry, const std::string& source, std::string_view tensor) {
  const auto* value = entry.if_contains("dtype");
  const auto* text = value != nullptr ? value->if_string() : nullptr;
  FOVEAL_CHECK(text != nullptr, ErrorKind::kCorruptFile, source,
               "got no 'dtype' for '{}'; need one", tensor);
  for (const DTypeName& known : kDTypes) {
    if (known.name == std::string_view(text->data(), text->size())) return known.dtype;
  }
  fail(ErrorKind::kUnsupported, source,
       "got dtype '{}' for '{}'; need F32, F16, BF16, F8_E4M3, F64, BOOL or an integer",
       std::string_view(text->data(), text->size()), tensor);
}

struct Placed {
  SafetensorsTensor tensor;
  uint64_t begin = 0;
  uint64_t end = 0;
};

Placed tensor_from(std::string_view name, const json::value& value, std::span<const std::byte> data,
                   const std::string& source) {
  const auto* entry = value.if_object();
  FOVEAL_CHECK(entry != nullptr, ErrorKind::kCorruptFile, source,
               "got something else than an object for '{}'; need dtype, shape, data_offsets", name);
  Placed out;
  out.tensor.name = std::string(name);
  TensorView& view = out.tensor.view;
  view.dtype = dtype_from(*entry, source, name);
  const json::array& shape = list_from(*entry, source, name, "shape");
  FOVEAL_CHECK(shape.size() <= kMaxDims, ErrorKind::kCorruptFile, source,
               "got {} dimensions for '{}'; need at most {}", shape.size(), name, kMaxDims);
  std::optional<int64_t> size = dtype_info(view.dtype).bytes;
  for (const json::value& extent : shape) {
    view.shape.push_back(count_from(extent, source, name, "shape"));
    if (size) size = checked_mul(*size, view.shape.back());
  }
  FOVEAL_CHECK(size, ErrorKind::kCorruptFile, source,
               "got shape [{}] for '{}'; need a size below 2^63", fmt::join(view.shape, ", "),
               name);
  const json::array& offsets = list_from(*entry, source, name, "data_offsets");
  FOVEAL_CHECK(offsets.size() == 2, ErrorKind::kCorruptFile, source,
               "got {} data_offsets for '{}'; need 2", offsets.size(), name);
  out.begin = static_cast<uint64_t>(count_from(offsets[0], source, name, "data_offsets"));
  out.end = static_cast<uint64_t>(count_from(offsets[1], source, name, "data_offsets"));
  out.tensor.bytes = static_cast<uint64_t>(*size);
  FOVEAL_CHECK(out.begin <= out.end && out.end - out.begin == out.tensor.bytes,
               ErrorKind::kCorruptFile, source,
               "got data_offsets [{}, {}] for '{}'; need {} bytes by its shape and dtype",
               out.begin, out.end, name, out.tensor.bytes);
  FOVEAL_CHECK(out.end <= data.size(), ErrorKind::kCorruptFile, source,
               "got {} bytes of data; need {} for '{}' (is the file complete?)", data.size(),
               out.end, name);
  view.data = data.data() + out.begin;
  return out;
}

void check_layout(const std::vector<Placed>& tensors, uint64_t data_bytes,
                  const std::string& source) {
  uint64_t at = 0;
  for (const Placed& placed : tensors) {
    FOVEAL_CHECK(placed.begin == at, ErrorKind::kCorruptFile, source,
                 "got '{}' at byte {}; need it at {}, right after the tensor before it",
                 placed.tensor.name, placed.begin, at);
    at = placed.end;
  }
  FOVEAL_CHECK(at == data_bytes, ErrorKind::kCorruptFile, source,
               "got {} bytes of data; need {} by the header", data_bytes, at);
}

}  // namespace

std::vector<SafetensorsTensor> parse_safetensors(std::span<const std::byte> bytes,
                                                 const std::string& source) {
  ByteReader reader(bytes, source);
  const auto length = reader.read<uint64_t>("the header length");
  FOVEAL_CHECK(length <= kMaxHeader, ErrorKind::kCorruptFile, source,
               "got a header of {} bytes; need at most {}", length, kMaxHeader);
  const auto header = reader.take(length, "the header");
  const auto data = bytes.subspan(reader.position());
  const json::object object =
      parse_json_object({reinterpret_cast<const char*>(header.data()), header.size()}, source,
                        DuplicateKeys::kReject);
  std::vector<Placed> placed;
  placed.reserve(object.size());
  for (const auto& [key, value] : object) {
    if (key == "__metadata__") continue;
    placed.push_back(tensor_from({key.data(), key.size()}, value, data, source));
  }
  std::sort(placed.begin(), placed.end(), [](const Placed& a, const Placed& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });
  check_layout(placed, data.size(), source);
  std::vector<SafetensorsTensor> tensors;
  tensors.reserve(placed.size());
  for (Placed& item : placed) tensors.push_back(std::move(item.tensor));
  return tensors;
}

std::map<std::string, std::string> parse_safetensors_index(std::string_view text,
                                                           const std::string& source) {
  const json::object index = parse_json_object(text, source, DuplicateKeys::kReject);
  const auto* map = index.if_contains("weight_map");
  FOVEAL_CHECK(map != nullptr && map->is_object() && !map->get_object().empty(),
               ErrorKind::kCorruptFile, source, "got no 'weight_map'; need tensor and file names");
  std::map<std::string, std::string> out;
  for (const auto& [key, value] : map->get_object()) {
    const auto* file = value.if_string();
    const std::string_view name =
        file != nullptr ? std::string_view(file->data(), file->size()) : std::string_view();
    // A path could lead out of the model's folder.
    FOVEAL_CHECK(name.find_first_of(std::string_view("/\\\0", 3)) == std::string_view::npos &&
                     !name.empty() && name.front() != '.',
                 ErrorKind::kCorruptFile, source, "got file '{}' for '{}'; need a plain file name",
                 name, std::string_view(key.data(), key.size()));
    out.emplace(std::string(key.data(), key.size()), std::string(name));
  }
  return out;
}

std::string_view safetensors_dtype_name(DType dtype) {
  for (const DTypeName& known : kDTypes) {
    if (known.dtype == dtype) return known.name;
  }
  return {};
}

}  // namespace foveal::model

#include "model/gguf.h"

#include <algorithm>
#include <array>
#include <bit>
#include <limits>

#include "base/check.h"
#include "base/math.h"
#include "model/byte_reader.h"

namespace foveal::model {
namespace {

constexpr uint32_t kMagic = 0x46554747;  // "GGUF"
constexpr int kMaxNesting = 4;           // arrays of arrays; nothing real has more than one
constexpr uint32_t kMaxDims = 4;
constexpr uint64_t kMaxAlignment = 1 << 20;
// An entry's least size: name length, value type, one byte of value; or name length, number of
// dimensions, one extent, type, offset.
constexpr uint64_t kLeastEntry = 8 + 4 + 1;
constexpr uint64_t kLeastTensor = 8 + 4 + 8 + 4 + 8;

GgufType read_type(ByteReader& reader, const std::string& source, std::string_view key) {
  const auto raw = reader.read<uint32_t>("a metadata type");
  FOVEAL_CHECK(raw <= static_cast<uint32_t>(GgufType::kF64), ErrorKind::kCorruptFile, source,
               "got metadata type {} for '{}'; need 0 to 12", raw, key);
  return static_cast<GgufType>(raw);
}

/// The elements of an array, walked so that every length in it is known to be good.
void walk_array(ByteReader& reader, const std::string& source, std::string_view key,
                GgufType element, uint64_t count, int nesting) {
  FOVEAL_CHECK(nesting <= kMaxNesting, ErrorKind::kCorruptFile, source,
               "got arrays nested deeper than {} in '{}'; need fewer", kMaxNesting, key);
  if (const auto size = gguf_scalar_bytes(element)) {
    reader.check_count(count, *size, "array elements");
    reader.take(count * *size, "array elements");
    return;
  }
  if (element == GgufType::kString) {
    reader.check_count(count, 8, "strings");
    for (uint64_t idx = 0; idx < count; ++idx) reader.read_string("a string in an array");
    return;
  }
  reader.check_count(count, 12, "arrays");
  for (uint64_t idx = 0; idx < count; ++idx) {
    const GgufType inner = read_type(reader, source, key);
    walk_array(reader, source, key, inner, reader.read<uint64_t>("an array length"), nesting + 1);
  }
}

GgufValue read_value(ByteReader& reader, std::span<const std::byte> bytes,
                     const std::string& source, std::string_view key) {
  GgufValue value;
  value.type = read_type(reader, source, key);
  if (const auto size = gguf_scalar_bytes(value.type)) {
    value.bytes = reader.take(*size, "a metadata value");
  } else if (value.type == GgufType::kString) {
    const std::string_view text = reader.read_string("a metadata string");
    value.bytes = std::as_bytes(std::span(text.data(), text.size()));
  } else {
    value.element = read_type(reader, source, key);
    value.count = reader.read<uint64_t>("an array length");
    const uint64_t begin = reader.position();
    walk_array(reader, source, key, value.element, value.count, 1);
    value.bytes = bytes.subspan(begin, reader.position() - begin);
  }
  return value;
}

struct TypeName {
  uint32_t id;
  std::string_view name;
  std::optional<DType> dtype;
};

// ggml's tensor types; those without a dtype are named only so that the error can say what they are
constexpr std::array<TypeName, 34> kTensorTypes{{
    {0, "F32", DType::kF32},    {1, "F16", DType::kF16},
    {2, "Q4_0", DType::kQ4_0},  {3, "Q4_1", DType::kQ4_1},
    {6, "Q5_0", DType::kQ5_0},  {7, "Q5_1", DType::kQ5_1},
    {8, "Q8_0", DType::kQ8_0},  {9, "Q8_1", {}},
    {10, "Q2_K", {}},           {11, "Q3_K", {}},
    {12, "Q4_K", DType::kQ4_K}, {13, "Q5_K", DType::kQ5_K},
    {14, "Q6_K", DType::kQ6_K}, {15, "Q8_K", {}},
    {16, "IQ2_XXS", {}},        {17, "IQ2_XS", {}},
    {18, "IQ3_XXS", {}},        {19, "IQ1_S", {}},
    {20, "IQ4_NL", {}},         {21, "IQ3_S", {}},
    {22, "IQ2_S", {}},          {23, "IQ4_XS", {}},
    {24, "I8", DType::kI8},     {25, "I16", DType::kI16},
    {26, "I32", DType::kI32},   {27, "I64", DType::kI64},
    {28, "F64", DType::kF64},   {29, "IQ1_M", {}},
    {30, "BF16", DType::kBF16}, {34, "TQ1_0", {}},
    {35, "TQ2_0", {}},          {39, "MXFP4", {}},
    {40, "NVFP4", {}},          {41, "Q1_0", {}},
}};

DType tensor_dtype(uint32_t id, std::string_view tensor, const std::string& source) {
  const auto* found = std::find_if(kTensorTypes.begin(), kTensorTypes.end(),
                                   [&](const TypeName& type) { return type.id == id; });
  FOVEAL_CHECK(found != kTensorTypes.end(), ErrorKind::kCorruptFile, source,
               "got tensor type {} for '{}'; need a type of ggml", id, tensor);
  FOVEAL_CHECK(found->dtype.has_value(), ErrorKind::kUnsupported, source,
               "got tensor '{}' of type {}; need F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, "
               "Q4_K, Q5_K or Q6_K",
               tensor, found->name);
  return *found->dtype;
}

struct TensorPlace {
  GgufTensor tensor;
  uint64_t offset = 0;  // from the start of the data section
};

TensorPlace read_tensor(ByteReader& reader, const std::string& source) {
  TensorPlace out;
  GgufTensor& tensor = out.tensor;
  tensor.name = reader.read_string("a tensor name");
  const auto dims = reader.read<uint32_t>("a number of dimensions");
  FOVEAL_CHECK(dims >= 1 && dims <= kMaxDims, ErrorKind::kCorruptFile, source,
               "got {} dimensions for '{}'; need 1 to {}", dims, tensor.name, kMaxDims);
  std::optional<int64_t> outer = 1;  // product of all extents but the innermost
  tensor.view.shape.resize(dims);
  for (uint32_t dim = 0; dim < dims; ++dim) {
    const auto extent = reader.read<int64_t>("an extent");
    FOVEAL_CHECK(extent > 0, ErrorKind::kCorruptFile, source,
                 "got extent {} in '{}'; need a positive number", static_cast<uint64_t>(extent),
                 tensor.name);
    tensor.view.shape[dims - 1 - dim] = extent;
    if (dim > 0 && outer) outer = checked_mul(*outer, extent);
  }
  tensor.view.dtype = tensor_dtype(reader.read<uint32_t>("a tensor type"), tensor.name, source);
  out.offset = reader.read<uint64_t>("a tensor offset");
  const auto row = row_bytes(tensor.view.dtype, tensor.view.shape.back());
  const auto size = row && outer ? checked_mul(*row, *outer) : std::nullopt;
  FOVEAL_CHECK(size && checked_mul(*outer, tensor.view.shape.back()), ErrorKind::kCorruptFile,
               source, "got shape [{}] for '{}'; need whole {} blocks and a size below 2^63",
               fmt::join(tensor.view.shape, ", "), tensor.name, dtype_name(tensor.view.dtype));
  tensor.bytes = static_cast<uint64_t>(*size);
  return out;
}

uint64_t read_alignment(const GgufFile& file, const std::string& source) {
  const GgufValue* value = file.find("general.alignment");
  if (value == nullptr) return 32;
  const auto alignment = value->as_int();
  FOVEAL_CHECK(alignment && *alignment >= 8 && *alignment <= static_cast<int64_t>(kMaxAlignment) &&
                   std::has_single_bit(static_cast<uint64_t>(*alignment)),
               ErrorKind::kCorruptFile, source,
               "got general.alignment {}; need a power of two from 8 to {}", alignment.value_or(-1),
               kMaxAlignment);
  return static_cast<uint64_t>(*alignment);
}

/// Gives tensors their data; they must be aligned, inside the file and apart.
void place_tensors(std::vector<TensorPlace>& places, std::span<const std::byte> data,
                   uint64_t alignment, const std::string& source) {
  for (TensorPlace& place : places) {
    GgufTensor& tensor = place.tensor;
    FOVEAL_CHECK(place.offset % alignment == 0, ErrorKind::kCorruptFile, source,
                 "got offset {} for '{}'; need a multiple of {}", place.offset, tensor.name,
                 alignment);
    FOVEAL_CHECK(place.offset <= data.size() && tensor.bytes <= data.size() - place.offset,
                 ErrorKind::kCorruptFile, source,
                 "got {} bytes of tensor data; need {} bytes from byte {} on for '{}' (is the file "
                 "complete?)",
                 data.size(), tensor.bytes, place.offset, tensor.name);
    tensor.view.data = data.data() + place.offset;
  }
  std::vector<const TensorPlace*> order;
  order.reserve(places.size());
  for (const TensorPlace& place : places) order.push_back(&place);
  std::sort(order.begin(), order.end(),
            [](const auto* a, const auto* b) { return a->offset < b->offset; });
  for (size_t idx = 1; idx < order.size(); ++idx) {
    const TensorPlace& before = *order[idx - 1];
    FOVEAL_CHECK(before.offset + before.tensor.bytes <= order[idx]->offset, ErrorKind::kCorruptFile,
                 source, "got '{}' overlapping '{}'; need tensors apart", before.tensor.name,
                 order[idx]->tensor.name);
  }
}

void read_header(ByteReader& reader, GgufFile& file, const std::string& source) {
  const auto magic = reader.read<uint32_t>("the magic number");
  FOVEAL_CHECK(magic == kMagic, ErrorKind::kCorruptFile, source,
               "got a file that begins with {:#010x}; need a GGUF file", magic);
  file.version = reader.read<uint32_t>("the version");
  FOVEAL_CHECK((file.version & 0xffffU) != 0, ErrorKind::kUnsupported, source,
               "got a big-endian GGUF file; need little endian");
  FOVEAL_CHECK(file.version == 2 || file.version == 3, ErrorKind::kUnsupported, source,
               "got GGUF version {}; need 2 or 3", file.version);
}

}  // namespace

const GgufValue* GgufFile::find(std::string_view key) const {
  const auto found = metadata.find(key);
  return found == metadata.end() ? nullptr : &found->second;
}

GgufFile parse_gguf(std::span<const std::byte> bytes, const std::string& source) {
  FOVEAL_INVARIANT(reinterpret_cast<uintptr_t>(bytes.data()) % 8 == 0);
  ByteReader reader(bytes, source);
  GgufFile file;
  read_header(reader, file, source);
  const auto tensor_count = reader.read<uint64_t>("the number of tensors");
  const auto entry_count = reader.read_count(kLeastEntry, "metadata entries");
  reader.check_count(tensor_count, kLeastTensor, "tensors");
  for (uint64_t idx = 0; idx < entry_count; ++idx) {
    const std::string_view key = reader.read_string("a metadata key");
    const GgufValue value = read_value(reader, bytes, source, key);
    FOVEAL_CHECK(file.metadata.emplace(key, value).second, ErrorKind::kCorruptFile, source,
                 "got metadata key '{}' twice; need it once", key);
  }
  file.alignment = read_alignment(file, source);

  std::vector<TensorPlace> places;
  reader.check_count(tensor_count, kLeastTensor, "tensors");
  places.reserve(tensor_count);
  for (uint64_t idx = 0; idx < tensor_count; ++idx) places.push_back(read_tensor(reader, source));
  const uint64_t mask = file.alignment - 1;
  const uint64_t padding = (file.alignment - (reader.position() & mask)) & mask;
  // A file without tensors may end unpadded.
  reader.take(tensor_count == 0 ? std::min(padding, reader.remaining()) : padding,
              "padding before the tensor data");
  place_tensors(places, bytes.subspan(reader.position()), file.alignment, source);
  file.tensors.reserve(places.size());
  for (TensorPlace& place : places) file.tensors.push_back(std::move(place.tensor));
  return file;
}

}  // namespace foveal::model

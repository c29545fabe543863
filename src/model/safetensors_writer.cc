#include "model/safetensors_writer.h"

#include <fmt/format.h>

#include <boost/json/serialize.hpp>
#include <boost/json/string.hpp>
#include <set>

#include "base/check.h"
#include "base/math.h"
#include "base/new_file.h"
#include "model/safetensors.h"

namespace foveal::model {
namespace {

uint64_t checked_bytes(const NamedTensor& tensor, const std::string& path) {
  FOVEAL_CHECK(
      tensor.dtype == DType::kF32 || tensor.dtype == DType::kI32 || tensor.dtype == DType::kF8E4M3,
      ErrorKind::kInvalidArgument, path, "got dtype {} for '{}'; need f32, i32 or f8_e4m3",
      dtype_name(tensor.dtype), tensor.name);
  std::optional<int64_t> size = dtype_info(tensor.dtype).bytes;
  for (const int64_t extent : tensor.shape) {
    size = size && extent >= 0 ? checked_mul(*size, extent) : std::nullopt;
  }
  FOVEAL_CHECK(size && static_cast<uint64_t>(*size) == tensor.data.size(),
               ErrorKind::kInvalidArgument, path,
               "got {} bytes of data for '{}'; need what shape [{}] says", tensor.data.size(),
               tensor.name, fmt::join(tensor.shape, ", "));
  return tensor.data.size();
}

std::string make_header(const std::string& path, std::span<const NamedTensor> tensors) {
  std::set<std::string_view> names;
  std::string header = "{";
  uint64_t at = 0;
  for (const NamedTensor& tensor : tensors) {
    FOVEAL_CHECK(names.insert(tensor.name).second && tensor.name != "__metadata__",
                 ErrorKind::kInvalidArgument, path, "got tensor name '{}' twice or reserved",
                 tensor.name);
    const uint64_t end = at + checked_bytes(tensor, path);
    header += fmt::format(
        R"({}{}:{{"dtype":"{}","shape":[{}],"data_offsets":[{},{}]}})",
        names.size() == 1 ? "" : ",", boost::json::serialize(boost::json::string(tensor.name)),
        safetensors_dtype_name(tensor.dtype), fmt::join(tensor.shape, ","), at, end);
    at = end;
  }
  header += "}";
  header.resize(static_cast<size_t>(round_up(static_cast<int64_t>(header.size()), 8)), ' ');
  return header;
}

}  // namespace

void write_safetensors(const std::string& path, std::span<const NamedTensor> tensors,
                       std::string_view flag) {
  const std::string header = make_header(path, tensors);
  const uint64_t length = header.size();
  const auto chars = [](const void* data, size_t size) {
    return std::string_view(static_cast<const char*>(data), size);
  };
  NewFile file(path, flag);
  file.write(chars(&length, sizeof length));
  file.write(header);
  for (const NamedTensor& tensor : tensors) {
    file.write(chars(tensor.data.data(), tensor.data.size()));
  }
  file.commit();
}

}  // namespace foveal::model

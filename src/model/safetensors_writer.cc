#include "model/safetensors_writer.h"

#include <fmt/format.h>
#include <unistd.h>

#include <boost/json/serialize.hpp>
#include <boost/json/string.hpp>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <set>
#include <system_error>

#include "base/check.h"
#include "base/math.h"
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

/// True for what a rename would replace instead of write to: devices, pipes, links.
bool is_special(const std::string& path) {
  std::error_code code;
  const auto status = std::filesystem::symlink_status(path, code);
  return std::filesystem::exists(status) && !std::filesystem::is_regular_file(status);
}

/// A file that disappears unless it is committed under its final name.
class TemporaryFile {
 public:
  TemporaryFile(const std::string& final_path, std::string_view flag)
      : final_path_(final_path),
        where_(flag.empty() ? final_path : flag),
        direct_(is_special(final_path)),
        path_(direct_ ? final_path : fmt::format("{}.{}.tmp", final_path, ::getpid())) {
    file_ = std::fopen(path_.c_str(), "wb");
    check(file_ != nullptr);
  }
  ~TemporaryFile() {
    if (file_ != nullptr) std::fclose(file_);
    if (!committed_ && !direct_) std::remove(path_.c_str());
  }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;

  void write(const void* data, size_t size) {
    if (size != 0) check(std::fwrite(data, 1, size, file_) == size);
  }
  void commit() {
    const int closed = std::fclose(file_);
    file_ = nullptr;
    check(closed == 0);
    check(direct_ || std::rename(path_.c_str(), final_path_.c_str()) == 0);
    committed_ = true;
  }

 private:
  void check(bool good) const {
    FOVEAL_CHECK(good, ErrorKind::kIo, where_, "got no write to '{}' ({}); need a writable path",
                 final_path_, std::generic_category().message(errno));
  }

  std::string final_path_;
  std::string where_;
  bool direct_;
  std::string path_;
  std::FILE* file_ = nullptr;
  bool committed_ = false;
};

}  // namespace

void write_safetensors(const std::string& path, std::span<const NamedTensor> tensors,
                       std::string_view flag) {
  const std::string header = make_header(path, tensors);
  const uint64_t length = header.size();
  TemporaryFile file(path, flag);
  file.write(&length, sizeof length);
  file.write(header.data(), header.size());
  for (const NamedTensor& tensor : tensors) file.write(tensor.data.data(), tensor.data.size());
  file.commit();
}

}  // namespace foveal::model

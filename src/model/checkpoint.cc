#include "model/checkpoint.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>
#include <filesystem>

#include "base/check.h"
#include "base/half.h"
#include "model/checkpoint_impl.h"
#include "model/gguf_parts.h"

namespace foveal::model {
namespace fs = std::filesystem;
namespace {

template <class T>
T load(const std::byte* data, int64_t idx) {
  T value;
  std::memcpy(&value, data + idx * static_cast<int64_t>(sizeof(T)), sizeof(T));
  return value;
}

WeightView as_matrix(const TensorView& tensor, std::string_view name, int64_t rows, int64_t cols,
                     const std::byte* data, const std::string& where) {
  const auto stride = row_bytes(tensor.dtype, cols);
  FOVEAL_CHECK(is_weight_dtype(tensor.dtype) && stride, ErrorKind::kUnsupported, where,
               "got '{}' as {}; need a weight type with rows of {}", name, dtype_name(tensor.dtype),
               cols);
  return {data, tensor.dtype, rows, cols, *stride};
}

}  // namespace

std::unique_ptr<Checkpoint> Checkpoint::open(const std::string& path) {
  std::error_code code;
  const fs::file_status status = fs::status(path, code);
  FOVEAL_CHECK(fs::exists(status), ErrorKind::kNotFound, path,
               "got nothing there; need a .gguf file or a model folder");
  if (!fs::is_directory(status)) return open_gguf_checkpoint(path);
  if (fs::exists(fs::path(path) / "config.json", code)) return open_safetensors_checkpoint(path);
  std::vector<std::string> found;
  for (const auto& entry : fs::directory_iterator(path, code)) {
    if (entry.path().extension() == ".gguf") found.push_back(entry.path().string());
  }
  FOVEAL_CHECK(!code, ErrorKind::kIo, path, "got '{}'; need a readable folder", code.message());
  std::sort(found.begin(), found.end());
  const auto part = found.empty() ? std::nullopt : gguf_part(found.front());
  const bool one = part && part->number == 1 && static_cast<size_t>(part->count) == found.size();
  FOVEAL_CHECK(one || found.size() == 1, ErrorKind::kNotFound, path,
               "got a folder with no config.json and {} .gguf files; need either, or all parts of "
               "one",
               found.size());
  return open_gguf_checkpoint(found.front());
}

bool Checkpoint::leaves_out(std::string_view name) const {
  constexpr std::string_view kLayers = "model.layers.";
  if (!name.starts_with(kLayers)) return false;
  name.remove_prefix(kLayers.size());
  int64_t layer = 0;
  const auto [end, code] = std::from_chars(name.data(), name.data() + name.size(), layer);
  return code == std::errc() && end != name.data() + name.size() && *end == '.' &&
         layer >= config().num_layers;
}

WeightView Checkpoint::matrix(std::string_view name, int64_t rows, int64_t cols) const {
  const TensorView* tensor = find_weight(name);
  FOVEAL_CHECK(tensor != nullptr, ErrorKind::kCorruptFile, folder(),
               "got no tensor '{}'; need it as [{}, {}]", name, rows, cols);
  FOVEAL_CHECK(tensor->shape.size() == 2 && tensor->shape[0] == rows && tensor->shape[1] == cols,
               ErrorKind::kCorruptFile, folder(), "got '{}' as [{}]; need [{}, {}]", name,
               fmt::join(tensor->shape, ", "), rows, cols);
  return as_matrix(*tensor, name, rows, cols, tensor->data, folder());
}

std::vector<float> Checkpoint::vector(std::string_view name, int64_t n) const {
  const TensorView* tensor = find(name);
  FOVEAL_CHECK(tensor != nullptr, ErrorKind::kCorruptFile, folder(),
               "got no tensor '{}'; need it as [{}]", name, n);
  FOVEAL_CHECK(tensor->shape.size() == 1 && tensor->shape[0] == n, ErrorKind::kCorruptFile,
               folder(), "got '{}' as [{}]; need [{}]", name, fmt::join(tensor->shape, ", "), n);
  std::vector<float> out(static_cast<size_t>(n));
  for (int64_t idx = 0; idx < n; ++idx) {
    float& value = out[static_cast<size_t>(idx)];
    switch (tensor->dtype) {
      case DType::kF32:
        value = load<float>(tensor->data, idx);
        break;
      case DType::kF16:
        value = f16_to_float(load<uint16_t>(tensor->data, idx));
        break;
      case DType::kBF16:
        value = bf16_to_float(load<uint16_t>(tensor->data, idx));
        break;
      default:
        fail(ErrorKind::kUnsupported, folder(), "got '{}' as {}; need f32, f16 or bf16", name,
             dtype_name(tensor->dtype));
    }
    FOVEAL_CHECK(std::isfinite(value), ErrorKind::kCorruptFile, folder(),
                 "got {} at [{}] of '{}'; need finite numbers", value, idx, name);
  }
  return out;
}

WeightView Checkpoint::expert_matrix(std::string_view name, int32_t expert, int64_t rows,
                                     int64_t cols) const {
  const size_t place = name.find("{}");
  FOVEAL_CHECK(place != std::string_view::npos, ErrorKind::kInvalidArgument, folder(),
               "got expert tensor name '{}'; need {{}} where the number goes", name);
  if (find(name) != nullptr) {
    return stacked_matrix(name, expert, config().num_experts, rows, cols);
  }
  return matrix(fmt::format("{}{}{}", name.substr(0, place), expert, name.substr(place + 2)), rows,
                cols);
}

WeightView Checkpoint::stacked_matrix(std::string_view name, int32_t idx, int32_t count,
                                      int64_t rows, int64_t cols) const {
  FOVEAL_CHECK(idx >= 0 && idx < count, ErrorKind::kInvalidArgument, folder(),
               "got matrix {} of '{}'; need one of {}", idx, name, count);
  const TensorView* stacked = find_weight(name);
  FOVEAL_CHECK(stacked != nullptr, ErrorKind::kCorruptFile, folder(),
               "got no tensor '{}'; need it as [{}, {}, {}]", name, count, rows, cols);
  FOVEAL_CHECK(stacked->shape == (std::vector<int64_t>{count, rows, cols}), ErrorKind::kCorruptFile,
               folder(), "got '{}' as [{}]; need [{}, {}, {}]", name,
               fmt::join(stacked->shape, ", "), count, rows, cols);
  WeightView one = as_matrix(*stacked, name, rows, cols, stacked->data, folder());
  one.data += idx * rows * one.row_bytes;  // inside the tensor, whose size was checked
  return one;
}

}  // namespace foveal::model

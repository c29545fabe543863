#include <algorithm>
#include <cstring>
#include <filesystem>
#include <map>

#include "base/check.h"
#include "base/log.h"
#include "model/checkpoint_impl.h"
#include "model/config_json.h"
#include "model/fp8_check.h"
#include "model/fp8_weights.h"
#include "model/mapped_file.h"
#include "model/safetensors.h"
#include "model/table_checkpoint.h"

namespace foveal::model {
namespace fs = std::filesystem;
namespace {

constexpr size_t kMaxJsonBytes = 64 << 20;

std::string_view text_of(const MappedFile& file) {
  FOVEAL_CHECK(file.bytes().size() <= kMaxJsonBytes, ErrorKind::kCorruptFile, file.path(),
               "got {} bytes of JSON; need at most {}", file.bytes().size(), kMaxJsonBytes);
  return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
}

/// The language model's own name: multimodal checkpoints put a word in front of it.
std::string plain_name(std::string_view name) {
  constexpr std::string_view kOld = "language_model.";
  constexpr std::string_view kNew = "model.language_model.";
  if (name.starts_with(kOld)) return std::string(name.substr(kOld.size()));
  if (name.starts_with(kNew)) return "model." + std::string(name.substr(kNew.size()));
  return std::string(name);
}

class SafetensorsCheckpoint : public TableCheckpoint {
 public:
  explicit SafetensorsCheckpoint(const std::string& folder) {
    folder_ = folder;
    const fs::path root(folder);
    const MappedFile config_file((root / "config.json").string());
    config_ = parse_config_json(text_of(config_file), config_file.path());
    const fs::path generation = root / "generation_config.json";
    std::error_code absent;
    if (fs::exists(generation, absent)) {
      const MappedFile file(generation.string());
      add_generation_config(config_, text_of(file), file.path());
    }
    const fs::path index = root / "model.safetensors.index.json";
    if (fs::exists(index, absent)) {
      open_shards(index);
    } else {
      open_single(root);
    }
    if (has_fp8_ != config_.fp8_weights) {
      log_info(
          "config.json {} fp8 weights in its quantization_config, and the file has {}: each "
          "tensor is taken as it is stored",
          has_fp8_ ? "names no" : "names", has_fp8_ ? "some" : "none");
    }
    config_.fp8_weights = has_fp8_;
    if (std::any_of(tensors_.begin(), tensors_.end(),
                    [](const auto& entry) { return entry.first.ends_with(".input_scale"); })) {
      log_info(
          "input_scale: static scales of activations are not used; where activations are rounded "
          "to f8_e4m3, each row has scales of its own");
    }
    if (has_fp8_) fp8_ = std::make_unique<Fp8Weights>(folder_, config_.fp8_block, keep_fp8_);
    for (std::string& module : config_.fp8_exempt) module = plain_name(module);
    check_fp8_tensors(*this, config_.fp8_exempt);
  }

  std::string format() const override {
    return files_.size() == 1 ? "safetensors"
                              : fmt::format("safetensors ({} shards)", files_.size());
  }
  void prefetch() const override {
    for (const MappedFile& file : files_) file.prefetch();
  }
  int64_t bytes_to_come() const override {
    return total_bytes_ + (keep_fp8_ ? fp8_bytes_ / 32 * 36 : 2 * fp8_bytes_);
  }
  void keep_fp8() override {
    keep_fp8_ = true;
    if (fp8_) fp8_ = std::make_unique<Fp8Weights>(folder_, config_.fp8_block, keep_fp8_);
  }
  std::optional<Fp8Matrix> fp8_matrix(std::string_view name) const override {
    const TensorView* stored = find_fp8(name);
    if (stored == nullptr) return std::nullopt;
    return fp8_->stored(name, *stored, scale_of(name));
  }
  std::optional<Fp8Matrix> fp8_layout(std::string_view name) const override {
    const TensorView* stored = find_fp8(name);
    if (stored == nullptr) return std::nullopt;
    return fp8_->layout(name, *stored, scale_of(name));
  }

 protected:
  const TensorView* find_weight(std::string_view name) const override {
    const TensorView* stored = find_fp8(name);
    if (stored == nullptr) return find(name);
    return &fp8_->readable(name, *stored, scale_of(name));
  }

 private:
  const TensorView* find_fp8(std::string_view name) const {
    const TensorView* stored = find(name);
    return stored != nullptr && stored->dtype == DType::kF8E4M3 ? stored : nullptr;
  }
  const TensorView* scale_of(std::string_view name) const {
    for (const std::string& its : Fp8Weights::scale_names(name)) {
      if (const TensorView* scale = find(its)) return scale;
    }
    return nullptr;
  }

  void open_single(const fs::path& root) {
    fs::path path = root / "model.safetensors";
    std::error_code code;
    if (!fs::exists(path, code)) {  // another name will do if it is the only one
      std::vector<fs::path> found;
      for (const auto& entry : fs::directory_iterator(root, code)) {
        if (entry.path().extension() == ".safetensors") found.push_back(entry.path());
      }
      FOVEAL_CHECK(found.size() == 1, ErrorKind::kNotFound, folder_,
                   "got {} .safetensors files and no index; need model.safetensors, or "
                   "model.safetensors.index.json and its shards",
                   found.size());
      path = found.front();
    }
    files_.emplace_back(path.string());
    for (SafetensorsTensor& tensor : parse_safetensors(files_[0].bytes(), path.string())) {
      add(tensor, path.string());
    }
  }

  void open_shards(const fs::path& index) {
    std::map<std::string, std::string> where;
    {
      const MappedFile file(index.string());
      where = parse_safetensors_index(text_of(file), file.path());
    }
    std::map<std::string, std::vector<std::string>> shards;  // file name -> its tensors, sorted
    for (const auto& [tensor, file] : where) shards[file].push_back(tensor);
    for (const auto& [file, wanted] : shards) {
      const std::string path = (index.parent_path() / file).string();
      files_.emplace_back(path);
      size_t taken = 0;
      for (SafetensorsTensor& tensor : parse_safetensors(files_.back().bytes(), path)) {
        if (!std::binary_search(wanted.begin(), wanted.end(), tensor.name)) {
          const auto other = where.find(tensor.name);
          FOVEAL_CHECK(other == where.end(), ErrorKind::kCorruptFile, path,
                       "got '{}', which the index places in '{}'; need it in one file", tensor.name,
                       other->second);
          continue;
        }
        add(tensor, path);
        ++taken;
      }
      FOVEAL_CHECK(taken == wanted.size(), ErrorKind::kCorruptFile, path,
                   "got {} of the tensors that the index places here; need {}", taken,
                   wanted.size());
    }
  }

  void add(SafetensorsTensor& tensor, const std::string& path) {
    // Kernels read through typed pointers; a header of odd length shifts all data behind it.
    const auto align = static_cast<uintptr_t>(dtype_info(tensor.view.dtype).bytes);
    if (reinterpret_cast<uintptr_t>(tensor.view.data) % align != 0 && tensor.bytes != 0) {
      auto copy = std::make_unique<std::byte[]>(tensor.bytes);  // new aligns to 16
      std::memcpy(copy.get(), tensor.view.data, tensor.bytes);
      tensor.view.data = copy.get();
      realigned_.push_back(std::move(copy));
    }
    const std::string name = plain_name(tensor.name);
    const int64_t bytes = leaves_out(name) ? 0 : static_cast<int64_t>(tensor.bytes);
    total_bytes_ += bytes;
    if (tensor.view.dtype == DType::kF8E4M3) {
      has_fp8_ = true;
      fp8_bytes_ += bytes;
    }
    FOVEAL_CHECK(tensors_.emplace(name, std::move(tensor.view)).second, ErrorKind::kCorruptFile,
                 path, "got tensor '{}' twice; need it once", tensor.name);
  }

  std::vector<MappedFile> files_;
  std::vector<std::unique_ptr<std::byte[]>> realigned_;
  bool has_fp8_ = false;  ///< some tensor, perhaps without elements
  int64_t fp8_bytes_ = 0;
  bool keep_fp8_ = false;
  std::unique_ptr<Fp8Weights> fp8_;  ///< where there are any
};

}  // namespace

std::unique_ptr<Checkpoint> open_safetensors_checkpoint(const std::string& folder) {
  return std::make_unique<SafetensorsCheckpoint>(folder);
}

}  // namespace foveal::model

#include <filesystem>
#include <map>

#include "base/check.h"
#include "model/checkpoint_impl.h"
#include "model/gguf.h"
#include "model/gguf_config.h"
#include "model/gguf_names.h"
#include "model/mapped_file.h"

namespace foveal::model {
namespace {

class GgufCheckpoint : public Checkpoint {
 public:
  explicit GgufCheckpoint(const std::string& path) : file_(path) {
    const GgufFile parsed = parse_gguf(file_.bytes(), path);
    config_ = read_gguf_config(parsed, path);
    vocab_ = read_gguf_vocab(parsed, path);
    format_ = fmt::format("GGUF v{}", parsed.version);
    for (const GgufTensor& tensor : parsed.tensors) {
      const std::string name = hf_tensor_name(tensor.name, config_.architecture);
      FOVEAL_CHECK(tensors_.emplace(name, tensor.view).second, ErrorKind::kCorruptFile, path,
                   "got tensor '{}' ({}) twice; need it once", tensor.name, name);
      total_bytes_ += static_cast<int64_t>(tensor.bytes);  // they lie apart in one file
    }
    folder_ = std::filesystem::absolute(path).parent_path().string();
  }

  const ModelConfig& config() const override { return config_; }
  const TensorView* find(std::string_view name) const override {
    const auto found = tensors_.find(name);
    return found == tensors_.end() ? nullptr : &found->second;
  }
  std::vector<std::string> names() const override {
    std::vector<std::string> out;
    for (const auto& [name, view] : tensors_) out.push_back(name);
    return out;
  }
  std::string format() const override { return format_; }
  int64_t total_bytes() const override { return total_bytes_; }
  const tokenizer::GgufVocab* vocab() const override {
    return vocab_.tokens.empty() ? nullptr : &vocab_;
  }
  std::string folder() const override { return folder_; }
  void prefetch() const override { file_.prefetch(); }

 private:
  MappedFile file_;
  ModelConfig config_;
  tokenizer::GgufVocab vocab_;
  std::string format_;
  std::string folder_;
  std::map<std::string, TensorView, std::less<>> tensors_;
  int64_t total_bytes_ = 0;
};

}  // namespace

std::unique_ptr<Checkpoint> open_gguf_checkpoint(const std::string& file) {
  return std::make_unique<GgufCheckpoint>(file);
}

}  // namespace foveal::model

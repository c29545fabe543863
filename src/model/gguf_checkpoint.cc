#include <filesystem>

#include "base/check.h"
#include "model/checkpoint_impl.h"
#include "model/gguf.h"
#include "model/gguf_config.h"
#include "model/gguf_names.h"
#include "model/mapped_file.h"
#include "model/table_checkpoint.h"

namespace foveal::model {
namespace {

class GgufCheckpoint : public TableCheckpoint {
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

  std::string format() const override { return format_; }
  const tokenizer::GgufVocab* vocab() const override {
    return vocab_.tokens.empty() ? nullptr : &vocab_;
  }
  void prefetch() const override { file_.prefetch(); }

 private:
  MappedFile file_;
  tokenizer::GgufVocab vocab_;
  std::string format_;
};

}  // namespace

std::unique_ptr<Checkpoint> open_gguf_checkpoint(const std::string& file) {
  return std::make_unique<GgufCheckpoint>(file);
}

}  // namespace foveal::model

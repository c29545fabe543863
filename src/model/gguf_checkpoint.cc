#include <filesystem>

#include "base/check.h"
#include "model/checkpoint_impl.h"
#include "model/gguf.h"
#include "model/gguf_config.h"
#include "model/gguf_names.h"
#include "model/gguf_parts.h"
#include "model/mapped_file.h"
#include "model/table_checkpoint.h"

namespace foveal::model {
namespace {

class GgufCheckpoint : public TableCheckpoint {
 public:
  explicit GgufCheckpoint(const std::string& path) {
    const GgufFile parsed = read_parts(path);
    config_ = read_gguf_config(parsed, path);
    vocab_ = read_gguf_vocab(parsed, path);
    format_ = fmt::format("GGUF v{}", parsed.version);
    if (files_.size() > 1) format_ += fmt::format(" ({} parts)", files_.size());
    for (const GgufTensor& tensor : parsed.tensors) {
      const std::string name = hf_tensor_name(tensor.name, config_.architecture);
      FOVEAL_CHECK(tensors_.emplace(name, tensor.view).second, ErrorKind::kCorruptFile, path,
                   "got tensor '{}' ({}) twice; need it once", tensor.name, name);
      if (!leaves_out(name)) total_bytes_ += static_cast<int64_t>(tensor.bytes);  // they lie apart
    }
    folder_ = std::filesystem::absolute(path).parent_path().string();
  }

  std::string format() const override { return format_; }
  const tokenizer::GgufVocab* vocab() const override {
    return vocab_.tokens.empty() ? nullptr : &vocab_;
  }
  void prefetch() const override {
    for (const MappedFile& file : files_) file.prefetch();
  }

 private:
  /// The first file's metadata, and the tensors of all.
  GgufFile read_parts(const std::string& path) {
    files_.emplace_back(path);
    GgufFile out = parse_gguf(files_.front().bytes(), path);
    const int64_t count = count_gguf_parts(out, path);
    if (count == 1) return out;
    for (int64_t number = 2; number <= count; ++number) {
      const std::string own = gguf_part(path)->path(number);
      files_.emplace_back(own);
      add_gguf_part(out, parse_gguf(files_.back().bytes(), own), number, own);
    }
    check_gguf_parts(out, path);
    return out;
  }

  std::vector<MappedFile> files_;
  tokenizer::GgufVocab vocab_;
  std::string format_;
};

}  // namespace

std::unique_ptr<Checkpoint> open_gguf_checkpoint(const std::string& file) {
  return std::make_unique<GgufCheckpoint>(file);
}

}  // namespace foveal::model

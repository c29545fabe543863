#include <filesystem>
#include <fstream>
#include <limits>

#include "tokenizer/text_tokenizer.h"

namespace foveal::tokenizer {
namespace {

namespace fs = std::filesystem;

/// Released tokenizer.json files have up to 40 MB.
constexpr uintmax_t kLargestFile = uintmax_t{512} << 20;

std::string read_file(const fs::path& path) {
  std::error_code error;
  const uintmax_t size = fs::file_size(path, error);
  FOVEAL_CHECK(!error, ErrorKind::kNotFound, "tokenizer", "got {} for '{}'; need a file",
               error.message(), path.string());
  FOVEAL_CHECK(size <= kLargestFile, ErrorKind::kCorruptFile, "tokenizer",
               "got '{}' of {} bytes; need at most {}", path.string(), size, kLargestFile);
  std::string bytes(size, '\0');
  std::ifstream file(path, std::ios::binary);
  file.read(bytes.data(), static_cast<std::streamsize>(size));
  FOVEAL_CHECK(file.gcount() == static_cast<std::streamsize>(size), ErrorKind::kIo, "tokenizer",
               "got {} of {} bytes of '{}'; need a readable file", file.gcount(), size,
               path.string());
  return bytes;
}

std::string read_if_there(const fs::path& path) {
  std::error_code error;
  return fs::is_regular_file(path, error) ? read_file(path) : std::string();
}

/// Many strings as one run of bytes, which is what the bridge takes.
struct Packed {
  explicit Packed(const std::vector<std::string_view>& strings) {
    ends.reserve(strings.size());
    for (const std::string_view string : strings) {
      bytes.append(string);
      ends.push_back(bytes.size());
    }
  }
  text::Strings view() const { return {bytes_of(bytes), {ends.data(), ends.size()}}; }

  std::string bytes;
  std::vector<uint64_t> ends;
};

}  // namespace

std::unique_ptr<Tokenizer> Tokenizer::from_file(const std::string& path) {
  std::error_code error;
  const bool folder = fs::is_directory(path, error);
  const fs::path file = folder ? fs::path(path) / "tokenizer.json" : fs::path(path);
  const std::string json = read_file(file);
  const std::string config =
      folder ? read_if_there(file.parent_path() / "tokenizer_config.json") : std::string();
  const std::string jinja =
      folder ? read_if_there(file.parent_path() / "chat_template.jinja") : std::string();
  return std::make_unique<TextTokenizer>(bridged("tokenizer", [&] {
    return text::load_json(bytes_of(json), bytes_of(config), bytes_of(jinja));
  }));
}

std::unique_ptr<Tokenizer> Tokenizer::from_gguf(const GgufVocab& vocab) {
  const Packed tokens(vocab.tokens);
  const Packed merges(vocab.merges);
  const text::GgufFields fields{
      .model = bytes_of(vocab.model),
      .pre = bytes_of(vocab.pre),
      .tokens = tokens.view(),
      .scores = {vocab.scores.data(), vocab.scores.size()},
      .types = {vocab.types.data(), vocab.types.size()},
      .merges = merges.view(),
      .bos = id_or_none(vocab.bos),
      .eos = id_or_none(vocab.eos),
      .eot = id_or_none(vocab.eot),
      .unk = id_or_none(vocab.unk),
      .add_bos = vocab.add_bos,
      .add_space_prefix = vocab.add_space_prefix,
      .chat_template = bytes_of(vocab.chat_template),
  };
  return std::make_unique<TextTokenizer>(
      bridged("tokenizer", [&] { return text::load_gguf(fields); }));
}

}  // namespace foveal::tokenizer

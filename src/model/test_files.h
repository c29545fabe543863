#pragma once

// Builders of small model files for tests, and what must hold for broken ones.

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/test_folder.h"
#include "foveal/error.h"
#include "model/gguf.h"

namespace foveal::model {

/// Bytes appended little-endian, and GGUF's pieces on top of them.
class FileBuilder {
 public:
  template <class T>
  FileBuilder& put(T value) {
    const auto* from = reinterpret_cast<const char*>(&value);
    bytes_.append(from, sizeof value);
    return *this;
  }
  FileBuilder& raw(std::string_view text) {
    bytes_.append(text);
    return *this;
  }
  FileBuilder& text(std::string_view value) { return put<uint64_t>(value.size()).raw(value); }
  FileBuilder& key(std::string_view name, GgufType type) {
    return text(name).put(static_cast<uint32_t>(type));
  }
  FileBuilder& array(GgufType element, uint64_t count) {
    return put(static_cast<uint32_t>(element)).put(count);
  }
  FileBuilder& pad(size_t alignment) {
    bytes_.resize((bytes_.size() + alignment - 1) / alignment * alignment, '\0');
    return *this;
  }
  const std::string& bytes() const { return bytes_; }

 private:
  std::string bytes_;
};

/// A GGUF file from entries and tensors; the counts in the header are right unless overridden.
class GgufBuilder {
 public:
  FileBuilder& entry() {
    ++entries_;
    return metadata_;
  }
  void set(std::string_view name, uint32_t value) { entry().key(name, GgufType::kU32).put(value); }
  void set(std::string_view name, float value) { entry().key(name, GgufType::kF32).put(value); }
  void set(std::string_view name, bool value) {
    entry().key(name, GgufType::kBool).put<uint8_t>(value ? 1 : 0);
  }
  void set(std::string_view name, const char* value) {
    entry().key(name, GgufType::kString).text(value);
  }
  void set(std::string_view name, const std::vector<std::string>& values) {
    entry().key(name, GgufType::kArray).array(GgufType::kString, values.size());
    for (const std::string& value : values) metadata_.text(value);
  }
  void set(std::string_view name, const std::vector<int32_t>& values) {
    entry().key(name, GgufType::kArray).array(GgufType::kI32, values.size());
    for (const int32_t value : values) metadata_.put(value);
  }
  /// `shape` innermost first, as in the file. Places the tensor after those before it.
  void tensor(std::string_view name, const std::vector<uint64_t>& shape, uint32_t type,
              std::string_view data) {
    ++tensors_;
    infos_.text(name).put(static_cast<uint32_t>(shape.size()));
    for (const uint64_t extent : shape) infos_.put(extent);
    data_.pad(32);
    infos_.put(type).put<uint64_t>(data_.bytes().size());
    data_.raw(data);
  }
  void f32(std::string_view name, const std::vector<uint64_t>& shape,
           const std::vector<float>& values) {
    tensor(name, shape, 0,
           {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)});
  }
  std::string build(uint32_t version = 3) const {
    FileBuilder file;
    file.raw("GGUF").put(version).put(tensors_).put(entries_);
    file.raw(metadata_.bytes()).raw(infos_.bytes());
    header_bytes = file.bytes().size();
    file.pad(32).raw(data_.bytes());
    return file.bytes();
  }

  mutable size_t header_bytes = 0;  ///< of the last build: all but padding and data

 private:
  FileBuilder metadata_, infos_, data_;
  uint64_t entries_ = 0;
  uint64_t tensors_ = 0;
};

/// A copy of exactly the right size on the heap, so that a sanitizer sees any read past the end.
class ExactBytes {
 public:
  explicit ExactBytes(std::string_view text)
      : size_(text.size()), data_(std::make_unique<std::byte[]>(text.size())) {
    if (!text.empty()) std::memcpy(data_.get(), text.data(), text.size());
  }
  std::span<const std::byte> span() const { return {data_.get(), size_}; }

 private:
  size_t size_;
  std::unique_ptr<std::byte[]> data_;
};

using TempFolder = TestFolder;

/// Runs `action`, which must throw an Error of this kind whose text holds `part`.
inline void expect_error(ErrorKind kind, std::string_view part,
                         const std::function<void()>& action) {
  try {
    action();
    ADD_FAILURE() << "no error; need one with '" << part << "'";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), kind) << error.what();
    EXPECT_NE(std::string(error.what()).find(part), std::string::npos)
        << error.what() << "\n  lacks: " << part;
  }
}

/// Runs `action`, which may succeed or throw an Error other than kInternal. True on success.
inline bool loads_or_refuses(const std::function<void()>& action) {
  try {
    action();
    return true;
  } catch (const Error& error) {
    EXPECT_NE(error.kind(), ErrorKind::kInternal) << error.what();
    return false;
  }
}

/// A tiny model's metadata: one layer, two heads of four channels.
inline GgufBuilder tiny_metadata(const std::string& architecture) {
  GgufBuilder file;
  file.set("general.architecture", architecture.c_str());
  file.set("general.name", "tiny");
  file.set(architecture + ".block_count", uint32_t{1});
  file.set(architecture + ".context_length", uint32_t{64});
  file.set(architecture + ".embedding_length", uint32_t{8});
  file.set(architecture + ".feed_forward_length", uint32_t{4});
  file.set(architecture + ".attention.head_count", uint32_t{2});
  file.set(architecture + ".attention.head_count_kv", uint32_t{1});
  file.set(architecture + ".attention.layer_norm_rms_epsilon", 1e-5F);
  file.set("tokenizer.ggml.model", "gpt2");
  file.set("tokenizer.ggml.tokens", std::vector<std::string>{"a", "b", "ab"});
  file.set("tokenizer.ggml.merges", std::vector<std::string>{"a b"});
  file.set("tokenizer.ggml.token_type", std::vector<int32_t>{1, 1, 1});
  file.set("tokenizer.ggml.eos_token_id", uint32_t{2});
  return file;
}
inline GgufBuilder tiny_llama_metadata() { return tiny_metadata("llama"); }

/// The complete model in GGUF.
inline GgufBuilder tiny_llama_gguf() {
  GgufBuilder file = tiny_llama_metadata();
  file.f32("token_embd.weight", {8, 3}, std::vector<float>(24, 0.5F));
  file.f32("output_norm.weight", {8}, {1, 2, 3, 4, 5, 6, 7, 8});
  file.f32("blk.0.attn_norm.weight", {8}, std::vector<float>(8, 1.0F));
  file.f32("blk.0.attn_k.weight", {8, 4}, std::vector<float>(32, 0.25F));
  return file;
}

}  // namespace foveal::model

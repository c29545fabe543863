#pragma once

#include <cstddef>
#include <span>
#include <string>

namespace foveal::model {

/// A file mapped read-only; unmapped when destroyed. Move-only. That somebody truncates the file
/// while it is mapped is not guarded against.
class MappedFile {
 public:
  /// Throws kNotFound when there is no such file, kIo when it cannot be read or mapped.
  explicit MappedFile(const std::string& path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::span<const std::byte> bytes() const { return {data_, size_}; }
  const std::string& path() const { return path_; }

  /// Starts reading the whole file into memory, and fills the page tables when it takes at most
  /// half of the machine's memory. Advice only: never fails.
  void prefetch() const;

 private:
  std::string path_;
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace foveal::model

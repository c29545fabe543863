#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>

#include "base/check.h"

namespace foveal::model {

/// Reads little-endian values front to back; whatever would pass the end is kCorruptFile.
class ByteReader {
 public:
  ByteReader(std::span<const std::byte> bytes, const std::string& source)
      : bytes_(bytes), source_(source) {}

  uint64_t position() const { return position_; }
  uint64_t remaining() const { return bytes_.size() - position_; }

  std::span<const std::byte> take(uint64_t count, std::string_view what) {
    FOVEAL_CHECK(count <= remaining(), ErrorKind::kCorruptFile, source_,
                 "got {} bytes left at byte {}; need {} for {}", remaining(), position_, count,
                 what);
    const auto out = bytes_.subspan(position_, count);
    position_ += count;
    return out;
  }

  template <class T>
  T read(std::string_view what) {
    T value;
    std::memcpy(&value, take(sizeof(T), what).data(), sizeof(T));
    return value;
  }

  /// A length as u64, then that many bytes.
  std::string_view read_string(std::string_view what) {
    const auto bytes = take(read<uint64_t>(what), what);
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }

  /// A number of items that take at least `least_bytes` each.
  uint64_t read_count(uint64_t least_bytes, std::string_view what) {
    const auto count = read<uint64_t>(what);
    check_count(count, least_bytes, what);
    return count;
  }

  void check_count(uint64_t count, uint64_t least_bytes, std::string_view what) const {
    FOVEAL_CHECK(count <= remaining() / least_bytes, ErrorKind::kCorruptFile, source_,
                 "got {} {} with {} bytes left; need at least {} bytes each", count, what,
                 remaining(), least_bytes);
  }

 private:
  std::span<const std::byte> bytes_;
  const std::string& source_;
  uint64_t position_ = 0;
};

}  // namespace foveal::model

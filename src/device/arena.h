#pragma once

#include <string>
#include <vector>

#include "device/device.h"

namespace foveal {

/// Scratch memory of a device, handed out in order and taken back all at once. Blocks are added,
/// and freed only with the arena: a captured graph keeps the addresses it was given, and a step
/// that takes the same sizes in the same order gets the same addresses. Memory taken in one step
/// and again in the next is safe without waiting as long as both steps use it on one stream.
class Arena {
 public:
  Arena(Device device, std::string what) : device_(device), what_(std::move(what)) {}

  /// At least `bytes`, aligned to 256, until the next `reset`; the content is arbitrary. Inside a
  /// graph capture the memory must be there already (`reserve`): CUDA refuses to allocate.
  std::byte* take(size_t bytes);

  /// From here on everything that was taken may be given out again.
  void reset();
  /// Makes the next `bytes` after a `reset` come from one block.
  void reserve(size_t bytes);

  size_t used() const { return used_; }          ///< bytes since the last reset
  size_t peak() const { return peak_; }          ///< the most there ever were
  size_t capacity() const { return capacity_; }  ///< bytes held

 private:
  void add_block(size_t bytes);

  Device device_;
  std::string what_;
  std::vector<Buffer> blocks_;
  size_t block_ = 0;   // where the next piece comes from
  size_t offset_ = 0;  // in that block
  size_t used_ = 0;
  size_t peak_ = 0;
  size_t capacity_ = 0;
};

}  // namespace foveal

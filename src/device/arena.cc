#include "device/arena.h"

#include <algorithm>

#include "base/check.h"

namespace foveal {
namespace {

constexpr size_t kAlignment = 256;  // what cudaMalloc gives, and more than any vector load needs
constexpr size_t kLeast = size_t{1} << 20;

size_t rounded(size_t bytes) {
  FOVEAL_CHECK(bytes <= SIZE_MAX / 4, ErrorKind::kInternal, "arena",
               "got {} bytes; need a size that fits an address space", bytes);
  return std::max<size_t>(1, (bytes + kAlignment - 1) / kAlignment) * kAlignment;
}

}  // namespace

std::byte* Arena::take(size_t bytes) {
  const size_t size = rounded(bytes);
  while (block_ < blocks_.size() && blocks_[block_].size() - offset_ < size) {
    ++block_;
    offset_ = 0;
  }
  // As much again as there is, so that the number of blocks stays small.
  if (block_ == blocks_.size()) add_block(std::max({size, capacity_, kLeast}));
  std::byte* data = blocks_[block_].data() + offset_;
  offset_ += size;
  used_ += size;
  peak_ = std::max(peak_, used_);
  return data;
}

void Arena::reset() {
  block_ = 0;
  offset_ = 0;
  used_ = 0;
}

void Arena::reserve(size_t bytes) {
  FOVEAL_CHECK(used_ == 0, ErrorKind::kInternal, "arena",
               "got reserve within a step; need it after reset");
  const size_t size = rounded(bytes);
  const auto fits = [size](const Buffer& block) { return block.size() >= size; };
  if (std::ranges::none_of(blocks_, fits)) add_block(size);
  // Pieces come from the first block that has room, so the large one goes first.
  std::iter_swap(blocks_.begin(), std::ranges::find_if(blocks_, fits));
}

void Arena::add_block(size_t bytes) {
  blocks_.emplace_back(device_, bytes, what_);
  capacity_ += bytes;
}

}  // namespace foveal

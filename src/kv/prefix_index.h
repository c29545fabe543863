#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "kv/page_allocator.h"

namespace foveal::kv {

/// Names a page of tokens together with everything before it.
struct PageHash {
  uint64_t low = 0;
  uint64_t high = 0;
  bool operator==(const PageHash&) const = default;
};

/// Chains `parent` with one page of token ids.
using PageHasher = PageHash (*)(const PageHash& parent, std::span<const int32_t> tokens);

/// XXH3, 128 bits.
PageHash hash_page(const PageHash& parent, std::span<const int32_t> tokens);

/// Finds pages that already hold the K and V of a prompt's beginning. Keys are chained 128-bit
/// hashes of whole pages of token ids under a root (model, number formats, prefill method and its
/// settings); the token ids are kept and compared too, so a collision can cost a miss but never a
/// wrong page.
///
/// The index itself holds one reference to each of its pages. Pages nobody else holds can be
/// evicted, least recently used first, leaves before the pages they extend. The same calls evict
/// the same pages.
class PrefixIndex {
 public:
  /// The allocator is borrowed; pages still indexed at destruction stay held in it. Another
  /// `hasher` than the default is for tests.
  PrefixIndex(PageAllocator& allocator, int32_t page_size, PageHasher hasher = hash_page);
  ~PrefixIndex();

  /// A root for `match` and `insert`: equal settings give equal roots.
  static uint64_t root(std::string_view settings);

  /// The longest run of indexed pages that begins `tokens`; each page retained for the caller.
  std::vector<PageId> match(uint64_t root, std::span<const int32_t> tokens);
  /// Makes the first pages.size() * page_size tokens findable. Pages already indexed (by an equal
  /// prompt that finished first) are left as they are.
  void insert(uint64_t root, std::span<const int32_t> tokens, std::span<const PageId> pages);
  /// Frees up to `count` pages that only the index holds. Returns how many became free. A page that
  /// someone holds leaves the index (not the pool) when it extends a page that has to go.
  int32_t evict(int32_t count);
  /// Pages that `evict` could free in the end. Walks the index.
  int32_t num_evictable() const;
  int32_t num_pages() const;
  int32_t page_size() const;
  /// Every indexed page, ascending.
  std::vector<PageId> pages() const;
  /// Throws kInternal when the index contradicts itself or the allocator.
  void check_integrity() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace foveal::kv

#pragma once

#include <cstdint>
#include <list>
#include <span>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "kv/page_allocator.h"

namespace foveal::kv {

/// Finds pages that already hold the K and V of a prompt's beginning. Keys are chained 128-bit
/// hashes of whole pages of token ids under a root (model, prefill method and its settings, tenant
/// salt); the token ids are kept and compared too, so a collision can cost a miss but never a wrong
/// page.
///
/// The index itself holds one reference to each of its pages. Pages nobody else holds can be
/// evicted, least recently used first, leaves before the pages they extend.
class PrefixIndex {
 public:
  PrefixIndex(PageAllocator& allocator, int32_t page_size);
  ~PrefixIndex();

  /// A root for `match` and `insert`: equal settings give equal roots.
  static uint64_t root(std::string_view settings);

  /// The longest run of indexed pages that begins `tokens`; each page retained for the caller.
  std::vector<PageId> match(uint64_t root, std::span<const int32_t> tokens);
  /// Makes the first pages.size() * page_size tokens findable. Pages already indexed (by an equal
  /// prompt that finished first) are left as they are.
  void insert(uint64_t root, std::span<const int32_t> tokens, std::span<const PageId> pages);
  /// Frees up to `count` pages that only the index holds. Returns how many became free.
  int32_t evict(int32_t count);
  /// Pages that `evict` could free in the end.
  int32_t num_evictable() const;
  int32_t num_pages() const;
  void check_integrity() const;

 private:
  struct Node;
  struct Impl;
  Impl* impl_;
};

}  // namespace foveal::kv

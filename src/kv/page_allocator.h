#pragma once

#include <cstdint>
#include <optional>
#include <vector>

namespace foveal::kv {

using PageId = int32_t;

/// Hands out page ids and counts who holds them. A page is free when its count is zero. Host only,
/// no memory behind it: the same ids index every layer and lane of the storage.
class PageAllocator {
 public:
  explicit PageAllocator(int32_t num_pages);

  int32_t num_pages() const { return static_cast<int32_t>(refs_.size()); }
  int32_t num_free() const { return static_cast<int32_t>(free_.size()); }

  /// A page with one reference, or nothing when none is free.
  std::optional<PageId> allocate();
  /// One more holder of a page that is held. Throws kInternal for a page that is not.
  void retain(PageId page);
  /// One holder less. True when the page became free. Throws kInternal when nobody holds it.
  bool release(PageId page);
  int32_t refs(PageId page) const { return refs_.at(static_cast<size_t>(page)); }

 private:
  std::vector<int32_t> refs_;
  std::vector<PageId> free_;
};

}  // namespace foveal::kv

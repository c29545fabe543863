#include "kv/page_allocator.h"

#include "base/check.h"

namespace foveal::kv {

PageAllocator::PageAllocator(int32_t num_pages) {
  FOVEAL_CHECK(num_pages >= 0, ErrorKind::kInvalidArgument, "kv_cache",
               "got {} pages; need 0 or more", num_pages);
  refs_.resize(static_cast<size_t>(num_pages));
  free_.resize(static_cast<size_t>(num_pages));
  // Low ids are handed out first and freed ids are reused at once: memory that nobody needed yet
  // stays untouched, so the system never has to back it.
  for (int32_t idx = 0; idx < num_pages; ++idx) {
    free_[static_cast<size_t>(idx)] = num_pages - 1 - idx;
  }
}

std::optional<PageId> PageAllocator::allocate() {
  if (free_.empty()) return std::nullopt;
  const PageId page = free_.back();
  free_.pop_back();
  refs_[static_cast<size_t>(page)] = 1;
  return page;
}

void PageAllocator::retain(PageId page) {
  FOVEAL_INVARIANT(page >= 0 && page < num_pages() && refs(page) > 0);
  ++refs_[static_cast<size_t>(page)];
}

bool PageAllocator::release(PageId page) {
  FOVEAL_INVARIANT(page >= 0 && page < num_pages() && refs(page) > 0);
  if (--refs_[static_cast<size_t>(page)] > 0) return false;
  free_.push_back(page);
  return true;
}

}  // namespace foveal::kv

#include "kv/page_allocator.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

#include "foveal/error.h"

namespace foveal::kv {
namespace {

TEST(PageAllocator, HandsOutLowIdsFirstAndReusesTheLatest) {
  PageAllocator allocator(3);
  EXPECT_EQ(allocator.allocate(), 0);
  EXPECT_EQ(allocator.allocate(), 1);
  EXPECT_TRUE(allocator.release(0));
  EXPECT_EQ(allocator.allocate(), 0);
  EXPECT_EQ(allocator.allocate(), 2);
  EXPECT_EQ(allocator.allocate(), std::nullopt);
}

TEST(PageAllocator, AnEmptyPoolIsAPool) {
  PageAllocator allocator(0);
  EXPECT_EQ(allocator.allocate(), std::nullopt);
  EXPECT_THROW(PageAllocator(-1), Error);
}

TEST(PageAllocator, RefusesWhatNobodyHolds) {
  PageAllocator allocator(2);
  EXPECT_THROW(allocator.retain(0), Error);
  EXPECT_THROW(allocator.release(0), Error);
  EXPECT_THROW(allocator.retain(-1), Error);
  EXPECT_THROW(allocator.release(2), Error);
  ASSERT_EQ(allocator.allocate(), 0);
  EXPECT_TRUE(allocator.release(0));
  EXPECT_THROW(allocator.release(0), Error);
  EXPECT_EQ(allocator.num_free(), 2);
}

TEST(PageAllocator, CountsLikeAMap) {
  const uint32_t seed = std::random_device{}();
  SCOPED_TRACE(seed);
  std::mt19937 rng(seed);
  PageAllocator allocator(17);
  std::vector<int32_t> refs(17, 0);
  std::vector<PageId> holds;  // one entry a reference
  for (int step = 0; step < 20000; ++step) {
    const uint32_t choice = rng() % 3;
    if (choice == 0) {
      const auto page = allocator.allocate();
      const bool full = std::find(refs.begin(), refs.end(), 0) == refs.end();
      ASSERT_EQ(page.has_value(), !full);
      if (!page) continue;
      ASSERT_EQ(refs[static_cast<size_t>(*page)]++, 0);
      holds.push_back(*page);
    } else if (!holds.empty()) {
      const size_t idx = rng() % holds.size();
      const PageId page = holds[idx];
      int32_t& count = refs[static_cast<size_t>(page)];
      if (choice == 1) {
        allocator.retain(page);
        ++count;
        holds.push_back(page);
      } else {
        ASSERT_EQ(allocator.release(page), --count == 0);
        holds.erase(holds.begin() + static_cast<ptrdiff_t>(idx));
      }
      ASSERT_EQ(allocator.refs(page), count);
    }
    ASSERT_EQ(allocator.num_free(), std::count(refs.begin(), refs.end(), 0));
  }
}

}  // namespace
}  // namespace foveal::kv

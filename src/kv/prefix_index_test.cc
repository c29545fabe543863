#include "kv/prefix_index.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <vector>

#include "foveal/error.h"

namespace foveal::kv {
namespace {

using Tokens = std::vector<int32_t>;
using Pages = std::vector<PageId>;

Pages allocate(PageAllocator& allocator, int32_t count) {
  Pages pages;
  while (count-- > 0) pages.push_back(allocator.allocate().value());
  return pages;
}

void release(PageAllocator& allocator, const Pages& pages) {
  for (const PageId page : pages) allocator.release(page);
}

/// Indexes `tokens` on fresh pages that only the index holds afterwards.
Pages publish(PageAllocator& allocator, PrefixIndex& index, uint64_t root, const Tokens& tokens) {
  const Pages pages = allocate(allocator, static_cast<int32_t>(tokens.size()) / index.page_size());
  index.insert(root, tokens, pages);
  release(allocator, pages);
  return pages;
}

TEST(PrefixIndex, FindsTheLongestRunOfWholePages) {
  PageAllocator allocator(8);
  PrefixIndex index(allocator, 2);
  const Pages pages = publish(allocator, index, 1, {1, 2, 3, 4, 5, 6});
  EXPECT_EQ(index.match(1, Tokens{1, 2, 3, 4, 5}), (Pages{pages[0], pages[1]}));
  EXPECT_EQ(index.match(1, Tokens{1, 2, 3, 9, 5, 6}), Pages{pages[0]});
  EXPECT_EQ(index.match(1, Tokens{3, 4, 5, 6}), Pages{});
  EXPECT_EQ(index.match(2, Tokens{1, 2, 3, 4}), Pages{}) << "another root";
  EXPECT_EQ(index.match(1, Tokens{}), Pages{});
  EXPECT_EQ(allocator.refs(pages[0]), 3) << "the index and two matches";
  index.check_integrity();
}

TEST(PrefixIndex, RootsFollowSettings) {
  EXPECT_EQ(PrefixIndex::root("model|dense"), PrefixIndex::root("model|dense"));
  EXPECT_NE(PrefixIndex::root("model|dense"), PrefixIndex::root("model|skip 1000"));
  EXPECT_NE(PrefixIndex::root(""), PrefixIndex::root("a"));
}

TEST(PrefixIndex, KeepsTheFirstOfEqualPages) {
  PageAllocator allocator(8);
  PrefixIndex index(allocator, 2);
  const Pages first = publish(allocator, index, 1, {1, 2, 3, 4});
  const Pages second = publish(allocator, index, 1, {1, 2, 3, 4, 5, 6});
  EXPECT_EQ(index.match(1, Tokens{1, 2, 3, 4, 5, 6}), (Pages{first[0], first[1], second[2]}));
  EXPECT_EQ(allocator.refs(second[0]), 0);
  EXPECT_EQ(index.num_pages(), 3);
  index.check_integrity();
}

TEST(PrefixIndex, EvictsOldLeavesFirst) {
  PageAllocator allocator(8);
  PrefixIndex index(allocator, 1);
  const Pages ab = publish(allocator, index, 1, {1, 2});
  const Pages ac = publish(allocator, index, 1, {1, 3});
  release(allocator, index.match(1, Tokens{1, 2}));  // now {1, 3} is the older
  EXPECT_EQ(index.evict(1), 1);
  EXPECT_EQ(allocator.refs(ac[1]), 0);
  EXPECT_EQ(index.evict(1), 1);
  EXPECT_EQ(allocator.refs(ab[1]), 0);
  EXPECT_EQ(allocator.refs(ab[0]), 1) << "the page both extended goes last";
  EXPECT_EQ(index.evict(5), 1);
  EXPECT_EQ(index.num_pages(), 0);
  EXPECT_EQ(allocator.num_free(), 8);
  index.check_integrity();
}

TEST(PrefixIndex, DoesNotEvictWhatSomebodyHolds) {
  PageAllocator allocator(8);
  PrefixIndex index(allocator, 1);
  publish(allocator, index, 1, {1, 2, 3});
  const Pages held = index.match(1, Tokens{1, 2});
  EXPECT_EQ(index.num_evictable(), 1);
  EXPECT_EQ(index.evict(3), 1);
  EXPECT_EQ(index.num_pages(), 2);
  EXPECT_EQ(index.match(1, Tokens{1, 2}), held);
  index.check_integrity();
}

// A second request computed {1, 2} by itself and extended it: it holds the third page, but the
// first two belong to nobody. They must be had all the same.
TEST(PrefixIndex, AHeldPageDoesNotPinIdleOnesBeforeIt) {
  PageAllocator allocator(8);
  PrefixIndex index(allocator, 1);
  publish(allocator, index, 1, {1, 2});
  const Pages own = allocate(allocator, 3);
  index.insert(1, Tokens{1, 2, 3}, own);
  EXPECT_EQ(index.num_evictable(), 2);
  EXPECT_EQ(index.evict(2), 2);
  EXPECT_EQ(index.num_pages(), 0);
  EXPECT_EQ(allocator.refs(own[2]), 1) << "its holder keeps it";
  index.check_integrity();
}

PageHash colliding_hash(const PageHash&, std::span<const int32_t>) { return {1, 1}; }

PageHash weak_hash(const PageHash& parent, std::span<const int32_t> tokens) {
  PageHash hash = hash_page(parent, tokens);
  return {hash.low % 5, 0};
}

TEST(PrefixIndex, ACollisionIsAMissNotAWrongPage) {
  PageAllocator allocator(8);
  PrefixIndex index(allocator, 2, colliding_hash);
  const Pages pages = publish(allocator, index, 1, {1, 2});
  EXPECT_EQ(index.match(1, Tokens{3, 4}), Pages{});
  EXPECT_EQ(index.match(2, Tokens{1, 2}), Pages{}) << "the root is compared as well";
  EXPECT_EQ(index.match(1, Tokens{1, 2, 1, 2}), Pages{pages[0]}) << "and the place";
  publish(allocator, index, 1, {3, 4});  // has no key of its own: not indexed, not harmful
  EXPECT_EQ(index.num_pages(), 1);
  index.check_integrity();
}

TEST(PrefixIndex, RefusesMorePagesThanTokens) {
  PageAllocator allocator(4);
  PrefixIndex index(allocator, 2);
  const Pages pages = allocate(allocator, 2);
  EXPECT_THROW(index.insert(1, Tokens{1, 2, 3}, pages), Error);
  EXPECT_THROW(PrefixIndex(allocator, 0), Error);
}

/// Against a map from whole prefixes to pages; with a hash that collides all the time as well.
void compare_with_map(PageHasher hasher, bool misses_allowed) {
  const uint32_t seed = std::random_device{}();
  SCOPED_TRACE(seed);
  std::mt19937 rng(seed);
  PageAllocator allocator(24);
  PrefixIndex index(allocator, 2, hasher);
  std::map<PageId, std::pair<uint64_t, Tokens>> meaning;  // of every page ever published
  int64_t found = 0;
  for (int step = 0; step < 3000; ++step) {
    Tokens tokens(rng() % 13);
    for (int32_t& token : tokens) token = static_cast<int32_t>(rng() % 2);
    const uint64_t root = rng() % 2;
    const Pages matched = index.match(root, tokens);
    for (size_t idx = 0; idx < matched.size(); ++idx) {
      const auto end = tokens.begin() + static_cast<ptrdiff_t>(2 * (idx + 1));
      ASSERT_EQ(meaning.at(matched[idx]), std::pair(root, Tokens(tokens.begin(), end)));
    }
    found += static_cast<int64_t>(matched.size());
    const auto whole = static_cast<int32_t>(tokens.size() / 2);
    const int32_t missing = whole - static_cast<int32_t>(matched.size());
    if (missing > allocator.num_free()) index.evict(missing - allocator.num_free());
    Pages pages = matched;
    for (const PageId page : allocate(allocator, missing)) {
      pages.push_back(page);
      const auto end = tokens.begin() + static_cast<ptrdiff_t>(2 * pages.size());
      meaning[page] = {root, Tokens(tokens.begin(), end)};
    }
    index.insert(root, tokens, pages);
    release(allocator, pages);
    if (!misses_allowed) {
      const Pages again = index.match(root, tokens);
      ASSERT_EQ(again, pages);
      release(allocator, again);
    }
    index.check_integrity();
    ASSERT_EQ(index.num_pages() + allocator.num_free(), allocator.num_pages());
    ASSERT_EQ(index.num_evictable(), index.num_pages());
  }
  EXPECT_GT(found, 100);
}

TEST(PrefixIndex, AgreesWithAMapOfPrefixes) { compare_with_map(hash_page, false); }

TEST(PrefixIndex, NeverGivesAWrongPageUnderManyCollisions) { compare_with_map(weak_hash, true); }

}  // namespace
}  // namespace foveal::kv

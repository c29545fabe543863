#include "kv/storage.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "foveal/error.h"

namespace foveal::kv {
namespace {

constexpr KvGeometry kSmall = {
    .num_layers = 2, .num_kv_heads = 3, .head_dim = 10, .dtype = DType::kF16, .page_size = 32};
const std::vector<LaneSpec> kLanes = {{"bounds", 13}, {"keys", 64}};

struct Block {
  std::byte* data;
  int64_t bytes;
};

/// Every block of one page: K, V and lanes of every layer.
std::vector<Block> blocks_of(const KvStorage& storage, int32_t layer, PageId page) {
  const KvLayerView view = storage.layer_view(layer);
  std::vector<Block> blocks = {{view.k_page(page), view.page_bytes},
                               {view.v_page(page), view.page_bytes}};
  for (int32_t lane = 0; lane < storage.num_lanes(); ++lane) {
    blocks.push_back(
        {storage.lane_page(lane, layer, page), storage.lane_spec(lane).bytes_per_page});
  }
  return blocks;
}

bool all_equal(const Block& block, std::byte value) {
  return std::all_of(block.data, block.data + block.bytes,
                     [value](std::byte byte) { return byte == value; });
}

TEST(KvStorage, DescribesItsLayers) {
  const KvStorage storage({}, kSmall, kLanes, 5);
  const KvLayerView view = storage.layer_view(1);
  EXPECT_EQ(view.page_bytes, 3 * 10 * 32 * 2);
  EXPECT_EQ(view.dtype, DType::kF16);
  EXPECT_EQ(view.page_size, 32);
  EXPECT_EQ(view.num_kv_heads, 3);
  EXPECT_EQ(view.head_dim, 10);
  EXPECT_EQ(storage.bytes_per_page(), bytes_per_page(kSmall, kLanes));
  EXPECT_EQ(storage.num_lanes(), 2);
  EXPECT_EQ(storage.lane_spec(1).name, "keys");
  EXPECT_EQ(view.lanes[0], storage.lane_data(0, 1));
  EXPECT_EQ(view.lanes[1], storage.lane_data(1, 1));
  EXPECT_EQ(KvStorage({}, kSmall, {}, 5).layer_view(1).lanes, nullptr);
}

TEST(KvStorage, ALatentCacheHasNoValues) {
  const KvStorage storage({},
                          {.num_layers = 2,
                           .num_kv_heads = 1,
                           .head_dim = 12,
                           .value_dim = 8,
                           .dtype = DType::kF32,
                           .page_size = 16},
                          std::vector<LaneSpec>{{"keys", 8, {0, 1}}}, 2);
  const KvLayerView view = storage.layer_view(1);
  EXPECT_EQ(view.v, nullptr);
  EXPECT_EQ(view.value_dim, 8);
  EXPECT_EQ(view.page_bytes, 16 * 12 * 4);
  EXPECT_EQ(storage.layer_view(0).lanes[0], nullptr);
  ASSERT_NE(view.lanes[0], nullptr);
  std::memset(view.k_page(1), 7, static_cast<size_t>(view.page_bytes));
  std::memset(storage.lane_page(0, 1, 1), 7, 8);
  storage.zero_pages(0, 2, std::vector<PageId>{1});
  EXPECT_TRUE(all_equal({view.k_page(1), view.page_bytes}, std::byte{0}));
  EXPECT_TRUE(all_equal({storage.lane_page(0, 1, 1), 8}, std::byte{0}));
  std::vector<int32_t> places;
  storage.append_pool_pages(1, places);
  EXPECT_EQ(places, (std::vector<int32_t>{1, 3}));
}

TEST(KvStorage, BlocksDoNotOverlapAndStartAtZero) {
  const KvStorage storage({}, kSmall, kLanes, 5);
  int64_t bytes = 0;
  uint8_t stamp = 0;
  for (int round = 0; round < 2; ++round) {  // write all, then read all
    for (int32_t layer = 0; layer < 2; ++layer) {
      for (PageId page = 0; page < 5; ++page) {
        for (const Block& block : blocks_of(storage, layer, page)) {
          ++stamp;
          if (round == 0) {
            EXPECT_TRUE(all_equal(block, std::byte{0}));
            std::memset(block.data, stamp, static_cast<size_t>(block.bytes));
            bytes += block.bytes;
          } else {
            EXPECT_TRUE(all_equal(block, std::byte{stamp}));
          }
        }
      }
    }
    stamp = 0;
  }
  EXPECT_EQ(bytes, 5 * storage.bytes_per_page());
}

TEST(KvStorage, ZeroesTheNamedPagesOfTheNamedLayersOnly) {
  const KvStorage storage({}, kSmall, kLanes, 4);
  for (int32_t layer = 0; layer < 2; ++layer) {
    for (PageId page = 0; page < 4; ++page) {
      for (const Block& block : blocks_of(storage, layer, page)) {
        std::memset(block.data, 0xff, static_cast<size_t>(block.bytes));
      }
    }
  }
  const std::vector<PageId> pages = {3, 1};
  storage.zero_pages(1, 2, pages);
  for (int32_t layer = 0; layer < 2; ++layer) {
    for (PageId page = 0; page < 4; ++page) {
      const bool zeroed = layer == 1 && page % 2 == 1;
      for (const Block& block : blocks_of(storage, layer, page)) {
        EXPECT_TRUE(all_equal(block, zeroed ? std::byte{0} : std::byte{0xff})) << layer << page;
      }
    }
  }
}

TEST(KvStorage, RefusesWhatIsOutside) {
  const KvStorage storage({}, kSmall, kLanes, 4);
  const std::vector<PageId> outside = {4};
  EXPECT_THROW(storage.zero_pages(0, 2, outside), Error);
  EXPECT_THROW(storage.zero_pages(0, 3, {}), Error);
  EXPECT_THROW(storage.layer_view(2), Error);
  EXPECT_THROW(storage.layer_view(-1), Error);
  EXPECT_THROW(storage.lane_data(2, 0), Error);
  EXPECT_THROW(storage.lane_page(0, 0, -1), Error);
  EXPECT_THROW(KvStorage({}, kSmall, {}, 0), Error);
}

TEST(KvStorage, AnImpossiblePoolIsAnError) {
  KvGeometry geometry = kSmall;
  geometry.num_kv_heads = 1 << 16;
  geometry.head_dim = 1 << 16;
  try {
    const KvStorage storage({}, geometry, {}, 1 << 20);
    FAIL() << "must throw";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kOutOfMemory) << error.what();
  }
}

}  // namespace
}  // namespace foveal::kv

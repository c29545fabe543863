#include "kv/capacity.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "foveal/error.h"

namespace foveal::kv {
namespace {

constexpr KvGeometry kSmall = {
    .num_layers = 3, .num_kv_heads = 2, .head_dim = 6, .dtype = DType::kBF16, .page_size = 16};
constexpr int64_t kSmallPage =
    2 * 3 * 2 * 6 * 16 * 2;  // K and V, layers, heads, dim, tokens, bytes

ErrorKind kind_of(const auto& call) {
  try {
    call();
  } catch (const Error& error) {
    EXPECT_EQ(std::string(error.what()).rfind("[kv_cache] got ", 0), 0U) << error.what();
    EXPECT_NE(std::string(error.what()).find("; need "), std::string::npos) << error.what();
    return error.kind();
  }
  ADD_FAILURE() << "must throw";
  return ErrorKind::kInternal;
}

TEST(Capacity, CountsEveryLaneOfEveryLayer) {
  EXPECT_EQ(bytes_per_page(kSmall, {}), kSmallPage);
  EXPECT_EQ(bytes_per_token(kSmall, {}), kSmallPage / 16);
  const std::vector<LaneSpec> lanes = {{"bounds", 7}, {"keys", 100}};
  EXPECT_EQ(bytes_per_page(kSmall, lanes), kSmallPage + 3 * 107);
  EXPECT_EQ(bytes_per_token(kSmall, lanes), (kSmallPage + 321 + 15) / 16);
}

constexpr KvGeometry kLatent = {.num_layers = 3,
                                .num_kv_heads = 1,
                                .head_dim = 576,
                                .value_dim = 512,
                                .dtype = DType::kBF16,
                                .page_size = 16};

TEST(Capacity, ALatentCacheHasOneLane) {
  EXPECT_EQ(bytes_per_page(kLatent, {}), 3 * 16 * 576 * 2);
  KvGeometry fp8 = kLatent;
  fp8.dtype = DType::kF8E4M3;
  EXPECT_EQ(bytes_per_token(fp8, {}), 3 * 656);
}

TEST(Capacity, RefusesALatentCacheThatCannotBe) {
  KvGeometry heads = kLatent;
  heads.num_kv_heads = 2;
  EXPECT_EQ(kind_of([&] { bytes_per_page(heads, {}); }), ErrorKind::kInvalidArgument);
  KvGeometry values = kLatent;
  values.value_dim = 578;
  EXPECT_EQ(kind_of([&] { bytes_per_page(values, {}); }), ErrorKind::kInvalidArgument);
  KvGeometry fp8 = kLatent;
  fp8.dtype = DType::kF8E4M3;
  fp8.head_dim = 320;
  fp8.value_dim = 256;
  EXPECT_EQ(kind_of([&] { bytes_per_page(fp8, {}); }), ErrorKind::kUnsupported);
}

TEST(Capacity, ALaneMayBeInSomeLayersOnly) {
  const std::vector<LaneSpec> lanes = {{"keys", 100, {1, 0, 1}}};
  EXPECT_EQ(bytes_per_page(kSmall, lanes), kSmallPage + 2 * 100);
}

TEST(Capacity, MaxTokensAreRoundedUpToPages) {
  const CapacityPlan plan =
      plan_capacity(kSmall, {}, {.max_tokens = 33, .free_bytes = 3 * kSmallPage});
  EXPECT_EQ(plan.num_pages, 3);
  EXPECT_EQ(plan.num_tokens, 48);
  EXPECT_EQ(plan.bytes_per_page, kSmallPage);
  EXPECT_EQ(plan.num_bytes, 3 * kSmallPage);
  EXPECT_EQ(plan_capacity(kSmall, {}, {.max_tokens = 1, .free_bytes = kSmallPage}).num_pages, 1);
}

TEST(Capacity, AShareOfFreeMemoryIsRoundedDown) {
  const CapacityRequest request = {
      .max_tokens = {}, .free_memory_fraction = 0.5, .free_bytes = 9 * kSmallPage + 1};
  EXPECT_EQ(plan_capacity(kSmall, {}, request).num_pages, 4);
  const int64_t huge = std::numeric_limits<int64_t>::max();
  const CapacityPlan most =
      plan_capacity(kSmall, {}, {.max_tokens = {}, .free_memory_fraction = 1, .free_bytes = huge});
  EXPECT_EQ(most.num_pages, std::numeric_limits<int32_t>::max());
}

TEST(Capacity, SaysWhenMemoryDoesNotDo) {
  for (const int64_t free_bytes : {int64_t{-5}, int64_t{0}, kSmallPage - 1}) {
    EXPECT_EQ(
        kind_of([&] { plan_capacity(kSmall, {}, {.max_tokens = 1, .free_bytes = free_bytes}); }),
        ErrorKind::kOutOfMemory);
    EXPECT_EQ(kind_of([&] {
                plan_capacity(
                    kSmall, {},
                    {.max_tokens = {}, .free_memory_fraction = 1, .free_bytes = free_bytes});
              }),
              ErrorKind::kOutOfMemory);
  }
}

TEST(Capacity, RefusesSenselessRequests) {
  for (const int64_t tokens : {int64_t{0}, int64_t{-1}, std::numeric_limits<int64_t>::min(),
                               std::numeric_limits<int64_t>::max()}) {
    EXPECT_EQ(
        kind_of([&] { plan_capacity(kSmall, {}, {.max_tokens = tokens, .free_bytes = 1 << 30}); }),
        ErrorKind::kInvalidArgument)
        << tokens;
  }
  for (const double fraction : {0.0, -0.5, 1.01, std::nan(""), HUGE_VAL}) {
    EXPECT_EQ(kind_of([&] {
                plan_capacity(
                    kSmall, {},
                    {.max_tokens = {}, .free_memory_fraction = fraction, .free_bytes = 1 << 30});
              }),
              ErrorKind::kInvalidArgument)
        << fraction;
  }
}

TEST(Capacity, RefusesGeometriesThatCannotBe) {
  const auto refused = [](auto change) {
    KvGeometry geometry = kSmall;
    change(geometry);
    EXPECT_EQ(kind_of([&] { bytes_per_page(geometry, {}); }), ErrorKind::kInvalidArgument);
  };
  refused([](KvGeometry& g) { g.num_layers = 0; });
  refused([](KvGeometry& g) { g.num_kv_heads = -1; });
  refused([](KvGeometry& g) { g.head_dim = 7; });
  refused([](KvGeometry& g) { g.page_size = 24; });
  refused([](KvGeometry& g) { g.page_size = 0; });
  refused([](KvGeometry& g) { g.dtype = DType::kQ8_0; });
  const int32_t most = std::numeric_limits<int32_t>::max();
  refused([&](KvGeometry& g) { g.num_kv_heads = most, g.head_dim = most - 1; });
  refused([&](KvGeometry& g) { g.num_layers = most, g.num_kv_heads = most; });
  const std::vector<LaneSpec> empty_lane = {{"x", 0}};
  EXPECT_EQ(kind_of([&] { bytes_per_page(kSmall, empty_lane); }), ErrorKind::kInvalidArgument);
  const std::vector<LaneSpec> wide_lane = {{"x", std::numeric_limits<int64_t>::max()}};
  EXPECT_EQ(kind_of([&] { bytes_per_page(kSmall, wide_lane); }), ErrorKind::kInvalidArgument);
}

}  // namespace
}  // namespace foveal::kv

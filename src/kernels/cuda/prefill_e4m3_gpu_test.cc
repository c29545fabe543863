// Prefill over a cache in e4m3, with queries in 16 bits and in e4m3.
#include <gtest/gtest.h>

#include "kernels/cuda/prefill_testing.h"

namespace foveal::kernels::cuda::testing {
namespace {

// The values are those that are stored, so the bound is that of a cache in q's type.
TEST_F(PrefillTest, AnE4m3CacheInEveryLayout) {
  for (const int32_t head_dim : {64, 96, 128, 192, 256}) {
    for (const int32_t page : {0, 16, 64, 128}) {
      for (const bool f16 : {false, true}) {
        SCOPED_TRACE(::testing::Message() << head_dim << ' ' << page << ' ' << f16);
        make({.seqs = {{200, 777}, {0, 40}, {1, 1}, {100, 333}},
              .head_dim = head_dim,
              .page_size = page,
              .token_major = f16,
              .f16 = f16,
              .e4m3_cache = true,
              .window = page == 64 ? 90 : 0});
        expect_right();
      }
    }
  }
}

TEST_F(PrefillTest, AnE4m3CacheInPieces) {
  PrefillCase given{.seqs = {{100, 900}, {60, 60}, {1, 128}, {130, 300}, {7, 129}},
                    .heads = 12,
                    .kv_heads = 3,
                    .e4m3_cache = true,
                    .q_spread = 4,
                    .skip_factor = 30};
  expect_right_votes(given);
  const ScratchShape shape = scratch_shape(params());
  const int64_t least = least_scratch_bytes(shape);
  const int64_t head = scratch_rows_of_all(shape) * shape.key_bytes;
  for (const int64_t bytes : {least, least + least / 2, 2 * least, 2 * head + 4096}) {
    SCOPED_TRACE(bytes);
    expect_right(static_cast<size_t>(bytes));
  }
}

TEST_F(PrefillTest, E4m3QueriesInEveryLayout) {
  for (const int32_t head_dim : {64, 96, 128, 192, 256}) {
    for (const int32_t page : {0, 16, 64, 128}) {
      for (const bool token_major : {false, true}) {
        SCOPED_TRACE(::testing::Message() << head_dim << ' ' << page << ' ' << token_major);
        make({.seqs = {{200, 777}, {0, 40}, {1, 1}, {193, 333}},
              .heads = token_major ? 6 : 4,
              .head_dim = head_dim,
              .page_size = page,
              .token_major = token_major,
              .e4m3_cache = true,
              .e4m3_queries = true,
              .window = page == 64 ? 90 : 0});
        expect_right();
      }
    }
  }
}

TEST_F(PrefillTest, E4m3QueriesSkipWhatTheDefinitionSkips) {
  for (const int32_t head_dim : {64, 96, 128, 192, 256}) {
    SCOPED_TRACE(head_dim);
    PrefillCase given{.seqs = {{200, 900}},
                      .heads = 2,
                      .kv_heads = 1,
                      .head_dim = head_dim,
                      .e4m3_cache = true,
                      .e4m3_queries = true,
                      .q_spread = 2,
                      .skip_factor = 300};
    expect_right_votes(given);
    given.window = 300;
    given.page_size = 16;
    expect_right_votes(given);
    expect_right(static_cast<size_t>(least_scratch_bytes(scratch_shape(params()))));
  }
}

// Weights that are nearly equal are rounded the same way, and long sums are cut: the divisor must
// have gone through the same.
TEST_F(PrefillTest, E4m3WeightsOfLongRowsSumToOne) {
  for (const int32_t head_dim : {64, 96, 128, 192, 256}) {
    for (const float value : {14.0F, -15.0F, 1.0F}) {
      SCOPED_TRACE(::testing::Message() << head_dim << ' ' << value);
      make({.seqs = {{3, 40000}},
            .heads = 2,
            .kv_heads = 1,
            .head_dim = head_dim,
            .e4m3_cache = true,
            .e4m3_queries = true,
            .q_spread = 0.1F});
      std::fill(v.begin(), v.end(), value);
      expect_right();
    }
  }
}

}  // namespace
}  // namespace foveal::kernels::cuda::testing

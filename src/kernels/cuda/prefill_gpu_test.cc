#include <gtest/gtest.h>

#include "kernels/cuda/prefill_testing.h"

namespace foveal::kernels::cuda::testing {
namespace {

TEST_F(PrefillTest, ShortAndOdd) {
  for (const auto& seqs : std::vector<std::vector<std::pair<int32_t, int32_t>>>{
           {{1, 1}}, {{128, 128}}, {{129, 129}}, {{77, 1000}}, {{130, 130}, {1, 5}, {64, 999}}}) {
    make({.seqs = seqs});
    expect_right();
  }
}

TEST_F(PrefillTest, PagesInAnyOrderOfHeadsAndTokens) {
  for (const int32_t page : {0, 16, 32, 64, 128}) {
    for (const bool token_major : {false, true}) {
      SCOPED_TRACE(::testing::Message() << page << ' ' << token_major);
      make({.seqs = {{200, 777}, {1, 1}, {100, 333}},
            .page_size = page,
            .token_major = token_major});
      expect_right();
    }
  }
}

TEST_F(PrefillTest, EveryHeadDimGroupAndType) {
  for (const int32_t head_dim : {64, 96, 128, 192, 256}) {
    for (const int32_t group : {1, 2, 3, 4, 7, 8, 16}) {
      SCOPED_TRACE(::testing::Message() << head_dim << ' ' << group);
      make({.seqs = {{150, 260}, {20, 70}},
            .heads = group,
            .kv_heads = 1,
            .head_dim = head_dim,
            .page_size = 32,
            .f16 = group % 2 == 0});
      expect_right();
    }
  }
}

TEST_F(PrefillTest, Windows) {
  for (const int32_t window : {1, 64, 100, 300}) {
    for (const int32_t head_dim : {64, 128, 256}) {
      SCOPED_TRACE(::testing::Message() << window << ' ' << head_dim);
      make({.seqs = {{300, 500}, {40, 40}},
            .head_dim = head_dim,
            .page_size = 16,
            .window = window});
      expect_right();
    }
  }
}

TEST_F(PrefillTest, SixtyFourRaggedSequences) {
  PrefillCase given{.heads = 2, .kv_heads = 1, .page_size = 32};
  for (int32_t seq = 0; seq < 64; ++seq) {
    const auto queries = static_cast<int32_t>(rng_() % 100);
    given.seqs.emplace_back(queries, queries + static_cast<int32_t>(rng_() % 200));
  }
  make(given);
  expect_right();
}

TEST_F(PrefillTest, LargeScores) {
  make({.seqs = {{100, 2000}}, .q_spread = 20});
  expect_right();
}

TEST_F(PrefillTest, SkipsWhatTheDefinitionSkips) {
  for (const int32_t head_dim : {64, 96, 128, 192, 256}) {
    SCOPED_TRACE(head_dim);
    PrefillCase given{.heads = 2, .kv_heads = 1, .head_dim = head_dim, .q_spread = 4};
    given.seqs = {{700, 700}};
    given.skip_factor = 100;
    expect_right_votes(given);
    given.seqs = {{300, 900}, {130, 400}};
    given.skip_factor = 200;
    expect_right_votes(given);
    given.window = 300;
    given.page_size = 16;
    expect_right_votes(given);
  }
}

// A row's neighbours in a block may be another sequence's.
TEST_F(PrefillTest, ARowDoesNotDependOnItsBatch) {
  for (const bool e4m3 : {false, true}) {
    SCOPED_TRACE(e4m3);
    make({.seqs = {{5, 300}, {70, 200}, {3, 900}},
          .e4m3_cache = e4m3,
          .e4m3_queries = e4m3,
          .q_spread = 4});
    const std::vector<uint16_t> together = run(prefill_workspace_bytes(params())).out;
    std::fill(q.begin() + static_cast<ptrdiff_t>(q_at(cu_q[1], 0)), q.end(), 0.5F);
    const std::vector<uint16_t> changed = run(prefill_workspace_bytes(params())).out;
    EXPECT_TRUE(std::equal(together.begin(),
                           together.begin() + static_cast<ptrdiff_t>(q_at(cu_q[1], 0)),
                           changed.begin()));
  }
}

// Nor on where its own block begins: chunks of a prompt, and prefixes found in the cache, move
// that.
TEST_F(PrefillTest, ARowDoesNotDependOnItsBlock) {
  for (const bool e4m3 : {false, true}) {
    for (const int32_t head_dim : {64, 128, 192, 256}) {
      for (const int32_t window : {0, 1100}) {
        SCOPED_TRACE(::testing::Message() << e4m3 << ' ' << head_dim << ' ' << window);
        make({.seqs = {{1500, 2900}},
              .heads = 2,
              .kv_heads = 1,
              .head_dim = head_dim,
              .e4m3_cache = e4m3,
              .e4m3_queries = e4m3,
              .window = window});
        std::vector<uint16_t> want = run(prefill_workspace_bytes(params())).out;
        for (const int32_t left_out : {16, 77, 800}) {
          const auto begin = static_cast<ptrdiff_t>(q_at(left_out, 0));
          q.erase(q.begin(), q.begin() + begin);
          want.erase(want.begin(), want.begin() + begin);
          what.seqs[0].first -= left_out;
          cu_q.back() -= left_out;
          EXPECT_EQ(run(prefill_workspace_bytes(params())).out, want) << left_out;
        }
      }
    }
  }
}

TEST_F(PrefillTest, AFactorOfTheLengthIsOff) {
  make({.seqs = {{256, 256}}});
  foveal_attention_params p = params();
  expect_right();
  what.skip_factor = 256;
  const Truth want = truth();
  EXPECT_EQ(want.counters, std::vector<uint64_t>(4)) << "the definition has no votes then";
  EXPECT_EQ(prefill_tiling(p).vote_rows, kVoteRows);
}

}  // namespace
}  // namespace foveal::kernels::cuda::testing

#include "attention/rocket/compact.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <random>

#include "attention/rocket/rocket_testing.h"
#include "foveal/error.h"
#include "kernels/reference/attention.h"

namespace foveal::attention::rocket {
namespace {

using testing::Case;

struct RocketCompact : ::testing::Test {
  uint64_t seed = std::random_device{}();
  ThreadPool pool{2};
  Stream stream{Device{}, pool};
};

/// `count` of `len` tokens for each of two KV heads.
OwnedSelection some_tokens(int32_t len, int32_t count, std::mt19937_64& rng) {
  OwnedSelection out{.kind = SelectionKind::kTokens, .offsets = {0}, .indices = {}};
  for (int32_t head = 0; head < 2; ++head) {
    std::vector<int32_t> tokens(len);
    std::iota(tokens.begin(), tokens.end(), 0);
    std::shuffle(tokens.begin(), tokens.end(), rng);
    std::sort(tokens.begin(), tokens.begin() + count);
    out.indices.insert(out.indices.end(), tokens.begin(), tokens.begin() + count);
    out.offsets.push_back(static_cast<int32_t>(out.indices.size()));
  }
  return out;
}

TEST_F(RocketCompact, MovesEachHeadsTokens) {
  std::mt19937_64 rng(seed);
  for (const DType dtype : {DType::kBF16, DType::kF16, DType::kF32}) {
    for (const int32_t cache_page : {16, 48}) {
      for (const int32_t count : {1, 15, 49, 96}) {
        SCOPED_TRACE(::testing::Message() << dtype_name(dtype) << " page " << cache_page << " kept "
                                          << count << " seed " << seed);
        // The second sequence's pages are where the first one's tokens go.
        Case data({.head_dim = 6, .cache_page = cache_page, .dtype = dtype, .lens = {211, 100}},
                  seed, stream);
        const OwnedSelection kept = some_tokens(211, count, rng);
        compact(data.kv, data.seqs[0].pages, kept.view(), data.seqs[1].pages, stream);
        for (int32_t head = 0; head < 2; ++head) {
          for (int32_t slot = 0; slot < count; ++slot) {
            const int32_t token = kept.indices[kept.offsets[head] + slot];
            const int32_t from = data.seqs[0].pages[token / cache_page];
            const int32_t to = data.seqs[1].pages[slot / cache_page];
            for (const bool key : {true, false}) {
              for (int32_t ch = 0; ch < 6; ++ch) {
                ASSERT_EQ(
                    kernels::reference::cache_value(data.kv, key, to, head, slot % cache_page, ch),
                    kernels::reference::cache_value(data.kv, key, from, head, token % cache_page,
                                                    ch))
                    << "head " << head << " slot " << slot;
              }
            }
          }
        }
      }
    }
  }
}

TEST_F(RocketCompact, Refuses) {
  std::mt19937_64 rng(seed);
  Case data({.lens = {211, 100}}, seed, stream);
  OwnedSelection kept = some_tokens(211, 20, rng);
  kept.offsets[1] = 19;  // heads that keep different numbers
  EXPECT_THROW(compact(data.kv, data.seqs[0].pages, kept.view(), data.seqs[1].pages, stream),
               Error);
  kept.kind = SelectionKind::kPages;
  EXPECT_THROW(compact(data.kv, data.seqs[0].pages, kept.view(), data.seqs[1].pages, stream),
               Error);
}

}  // namespace
}  // namespace foveal::attention::rocket

#include "attention/rocket/page_select.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numbers>
#include <random>

#include "attention/rocket/page_attend.h"
#include "attention/rocket/rocket_testing.h"
#include "base/math.h"
#include "foveal/error.h"

namespace foveal::attention::rocket {
namespace {

using testing::Case;
using testing::CaseShape;

struct RocketSelect : ::testing::Test {
  void TearDown() override { kernels::cpu::set_active_isa(kernels::cpu::machine_isa()); }

  uint64_t seed = std::random_device{}();
  ThreadPool pool{2};
  Stream stream{Device{}, pool};
};

std::vector<int32_t> row_of(const OwnedSelection& selection, int64_t row) {
  return {selection.indices.begin() + selection.offsets[row],
          selection.indices.begin() + selection.offsets[row + 1]};
}

/// Ranks within what float32 may do to them, and the selection that the ranks themselves say.
void check_against_reference(Case& data, int32_t topk, int32_t channels, Stream& stream,
                             bool in_float32 = false) {
  std::vector<float> ranks;
  PageSelectParams params = data.select(topk, channels);
  params.exact = in_float32;
  params.ranks = &ranks;
  const OwnedSelection got = select_pages(params, stream);
  const int32_t heads = data.shape.num_kv_heads;
  ASSERT_EQ(got.view().num_rows, std::ssize(data.seqs) * heads);
  int64_t at = 0;
  for (size_t row = 0; row < data.seqs.size() * heads; ++row) {
    const auto seq = static_cast<int32_t>(row) / heads;
    const auto pages = static_cast<int32_t>(ceil_div(data.seqs[seq].kv_len, data.shape.page_size));
    const std::vector<int32_t> kept = row_of(got, static_cast<int64_t>(row));
    ASSERT_EQ(std::ssize(kept), std::min(topk, pages));
    ASSERT_EQ(kept.back(), pages - 1) << "the newest page is always in";
    if (topk >= pages) {
      for (int32_t page = 0; page < pages; ++page) ASSERT_EQ(kept[page], page);
      continue;
    }
    const auto want =
        reference::page_ranks(data, seq, static_cast<int32_t>(row) % heads, params.num_channels, {},
                              false, !in_float32 && testing::rounds_scores(data));
    // A score sums num_channels products after the coefficient's few roundings; it is off by that
    // in its own exponent and in the sum's. exp2 is within 2e-7; sums run over vectors of pages (4
    // lanes at the least) and over the group.
    const double score = 2 * (params.num_channels + 6) * want.norm * std::numbers::ln2;
    const double relative = (score + pages / 4.0 + 16 + data.shape.group) * 0x1p-24 + 6e-7;
    ASSERT_LT(relative, 1e-3) << "the bound says nothing";
    std::vector<float> own(ranks.begin() + at, ranks.begin() + at + pages);
    at += pages;
    for (int32_t page = 0; page < pages; ++page) {
      ASSERT_NEAR(own[page], want.ranks[page], relative * want.ranks[page] + 1e-30) << page;
    }
    own.pop_back();
    std::vector<int32_t> exact = reference::top(own, topk - 1);
    exact.push_back(pages - 1);
    ASSERT_EQ(kept, exact);
    std::vector<double> sorted(want.ranks.begin(), want.ranks.end() - 1);
    std::sort(sorted.rbegin(), sorted.rend());
    for (int32_t page = 0; page + 1 < pages; ++page) {
      const bool is_kept = std::binary_search(kept.begin(), kept.end(), page);
      if (is_kept) {
        ASSERT_GE(want.ranks[page], sorted[topk - 2] * (1 - 2 * relative)) << page;
      } else if (topk > 1) {
        ASSERT_LE(want.ranks[page], sorted[topk - 2] * (1 + 2 * relative)) << page;
      }
    }
  }
}

TEST_F(RocketSelect, MatchesReference) {
  for (const kernels::cpu::Isa isa : testing::isa_levels()) {
    kernels::cpu::set_active_isa(isa);
    for (const BoundFormat format : {BoundFormat::kBf16, BoundFormat::kE5m2}) {
      for (const int32_t page_size : {1, 2, 4, 8, 16}) {
        for (const int32_t cache_page : {16, 32, 48, 128}) {
          SCOPED_TRACE(::testing::Message()
                       << kernels::cpu::isa_name(isa) << " format " << static_cast<int>(format)
                       << " page " << page_size << " of " << cache_page << " seed " << seed);
          Case data({.head_dim = 34,
                     .cache_page = cache_page,
                     .page_size = page_size,
                     .format = format,
                     .lens = {259, 1, 16, 128}},
                    seed++, stream);
          ASSERT_NO_FATAL_FAILURE(check_against_reference(data, 7, 34, stream));
          ASSERT_NO_FATAL_FAILURE(check_against_reference(data, 7, 9, stream));
          ASSERT_NO_FATAL_FAILURE(check_against_reference(data, 7, 9, stream, /*in_float32=*/true));
        }
      }
    }
  }
}

TEST_F(RocketSelect, MatchesReferenceOverGroupsAndSplits) {
  for (const kernels::cpu::Isa isa : testing::isa_levels()) {
    kernels::cpu::set_active_isa(isa);
    for (const int32_t group : {1, 2, 4, 5, 8, 9}) {
      SCOPED_TRACE(::testing::Message()
                   << kernels::cpu::isa_name(isa) << " group " << group << " seed " << seed);
      Case data({.num_kv_heads = group == 5 ? 3 : 1,
                 .group = group,
                 .head_dim = 16,
                 .lens = {4096, 4097, 33}},
                seed++, stream);
      for (const int32_t topk : {1, 2, 64, 1024, 1025}) {
        ASSERT_NO_FATAL_FAILURE(check_against_reference(data, topk, 16, stream));
      }
      ASSERT_NO_FATAL_FAILURE(check_against_reference(data, 64, 1, stream));
    }
  }
}

/// Candidates: some pages of the first `first_new`, others for each KV head, and all from there on.
OwnedSelection some_pages(int32_t num_kv_heads, int32_t first_new, std::mt19937_64& rng) {
  OwnedSelection out{.kind = SelectionKind::kPages, .offsets = {0}, .indices = {}};
  for (int32_t head = 0; head < num_kv_heads; ++head) {
    for (int32_t page = 0; page < first_new; ++page) {
      if (rng() % 3 == 0 || page < 2) out.indices.push_back(page);
    }
    out.offsets.push_back(static_cast<int32_t>(out.indices.size()));
  }
  return out;
}

// Candidates beside a sequence without any: ranked among themselves, and nothing else is selected.
TEST_F(RocketSelect, CandidatesOnly) {
  std::mt19937_64 rng(seed);
  for (const kernels::cpu::Isa isa : testing::isa_levels()) {
    kernels::cpu::set_active_isa(isa);
    for (const bool max_over_group : {false, true}) {
      for (const int32_t cache_page : {16, 32, 128}) {
        SCOPED_TRACE(::testing::Message() << kernels::cpu::isa_name(isa) << " cache page "
                                          << cache_page << " seed " << seed);
        Case data({.cache_page = cache_page, .lens = {900, 401}}, seed, stream);
        constexpr int32_t kFirstNew = 219;  // of 225 pages
        const OwnedSelection listed = some_pages(2, kFirstNew, rng);
        const PageCandidates candidates[] = {{.prompt = &listed, .first_new = kFirstNew}, {}};
        std::vector<float> ranks;
        PageSelectParams params = data.select(12, 20);
        params.max_over_group = max_over_group;
        params.candidates = candidates;
        params.sink = 2;
        params.recent = 3;
        params.ranks = &ranks;
        const OwnedSelection got = select_pages(params, stream);
        params.candidates = {};
        params.ranks = nullptr;
        EXPECT_EQ(row_of(got, 2), row_of(select_pages(params, stream), 2)) << "the neighbour";
        int64_t at = 0;
        for (int32_t head = 0; head < 2; ++head) {
          std::vector<int32_t> pages = row_of(listed, head);
          for (int32_t page = kFirstNew; page < 225; ++page) pages.push_back(page);
          const auto want = reference::page_ranks(data, 0, head, 20, pages, max_over_group,
                                                  testing::rounds_scores(data));
          const auto count = std::ssize(pages);
          const std::vector<float> own(ranks.begin() + at, ranks.begin() + at + count);
          at += count;
          for (int64_t idx = 0; idx < count; ++idx) {
            ASSERT_NEAR(own[idx], want.ranks[idx], 1e-3 * want.ranks[idx] + 1e-30) << idx;
          }
          const std::vector<float> free(own.begin() + 2, own.end() - 3);
          std::vector<int32_t> exact{0, 1};
          for (const int32_t idx : reference::top(free, 7)) exact.push_back(pages[idx + 2]);
          for (const int32_t page : {222, 223, 224}) exact.push_back(page);
          EXPECT_EQ(row_of(got, head), exact) << head;
        }
      }
    }
  }
}

TEST_F(RocketSelect, FewCandidatesAreAllSelected) {
  Case data({.lens = {900}}, seed, stream);
  const OwnedSelection listed{
      .kind = SelectionKind::kPages, .offsets = {0, 2, 5}, .indices = {3, 90, 0, 1, 219}};
  const PageCandidates candidates[] = {{.prompt = &listed, .first_new = 223}};
  PageSelectParams params = data.select(5);
  params.candidates = candidates;
  const OwnedSelection got = select_pages(params, stream);
  EXPECT_EQ(row_of(got, 0), (std::vector<int32_t>{3, 90, 223, 224}));
  EXPECT_EQ(row_of(got, 1), (std::vector<int32_t>{0, 1, 219, 223, 224}));
  // Exact attention over rows of different lengths, of which none has all pages.
  kernels::PagedAttentionParams attend = data.attend();
  EXPECT_NO_THROW(attend_pages(attend, got.view(), 4, stream));
}

TEST_F(RocketSelect, TopIsTheDefinition) {
  std::mt19937_64 rng(seed);
  for (const kernels::cpu::Isa isa : testing::isa_levels()) {
    kernels::cpu::set_active_isa(isa);
    for (const int32_t n : {1, 2, 15, 16, 100, 513, 4000}) {
      for (const uint64_t distinct : {1ULL, 3ULL, 50ULL, 1ULL << 40}) {
        std::vector<float> ranks(n);
        for (float& x : ranks) x = std::ldexp(static_cast<float>(rng() % distinct), -40);
        for (const int32_t k : {0, 1, n / 3, n - 1, n}) {
          std::vector<int32_t> got(k + 1, -7);
          rocket_kernels().top(ranks.data(), n, k, got.data());
          EXPECT_EQ(got.back(), -7) << "no more than k";
          got.pop_back();
          ASSERT_EQ(got, reference::top(ranks, k)) << n << " " << k << " seed " << seed;
        }
      }
    }
  }
}

TEST_F(RocketSelect, EqualPagesKeepTheLowest) {
  Case data({.lens = {403}}, seed, stream);
  std::fill(data.q.begin(), data.q.end(), 0.0F);
  const OwnedSelection got = select_pages(data.select(10), stream);
  for (int64_t row = 0; row < 2; ++row) {
    EXPECT_EQ(row_of(got, row), (std::vector<int32_t>{0, 1, 2, 3, 4, 5, 6, 7, 8, 100}));
  }
}

// The newest page takes a place: with it among the best anyway the choice is the plain top k.
TEST_F(RocketSelect, TheNewestPageIsAlwaysIn) {
  Case data({.num_kv_heads = 1, .group = 1, .lens = {400}}, seed, stream);
  std::vector<float> ranks;
  PageSelectParams params = data.select(20);
  params.ranks = &ranks;
  const std::vector<int32_t> got = row_of(select_pages(params, stream), 0);
  std::vector<int32_t> plain = reference::top(ranks, 20);
  if (plain.back() != 99) {
    plain = reference::top(ranks, 19);
    plain.push_back(99);
  }
  EXPECT_EQ(got, plain) << "seed " << seed;
}

TEST_F(RocketSelect, APageWithAnInfiniteBoundIsIn) {
  for (const kernels::cpu::Isa isa : testing::isa_levels()) {
    kernels::cpu::set_active_isa(isa);
    Case data({.num_kv_heads = 1, .group = 2, .dtype = DType::kF32, .lens = {400}}, seed, stream);
    for (int32_t ch = 0; ch < 32; ++ch) {             // past e5m2's range
      const float huge = ch % 2 == 0 ? -1e6F : 1e6F;  // 0 * -inf, 1 * inf
      const int32_t id = data.seqs[0].pages[1];
      std::memcpy(data.kv.k_page(id) + int64_t{4} * (ch * 32 + 9), &huge, 4);  // token 41, page 10
      for (int32_t row = 0; row < 2; ++row) data.q[row * 32 + ch] = static_cast<float>(ch % 2);
    }
    kernels::AttentionSeq all = data.seqs[0];
    all.q_len = all.kv_len;
    update_bounds(data.kv, {&all, 1}, data.bounds, stream);
    const std::vector<int32_t> got = row_of(select_pages(data.select(2), stream), 0);
    EXPECT_EQ(got, (std::vector<int32_t>{10, 99})) << kernels::cpu::isa_name(isa);
  }
}

TEST_F(RocketSelect, ThreadsAndBatchChangeNothing) {
  for (const kernels::cpu::Isa isa : testing::isa_levels()) {
    kernels::cpu::set_active_isa(isa);
    Case data({.lens = {5000, 3, 700, 64}}, seed, stream);
    std::vector<float> ranks;
    PageSelectParams params = data.select(16, 20);
    params.ranks = &ranks;
    const OwnedSelection want = select_pages(params, stream);
    const std::vector<float> want_ranks = ranks;
    for (const int threads : {1, 3}) {
      ThreadPool other(threads);
      Stream other_stream(Device{}, other);
      EXPECT_EQ(select_pages(params, other_stream).indices, want.indices);
      EXPECT_EQ(ranks, want_ranks);
    }
    std::vector<int32_t> indices;
    std::vector<float> alone;
    for (const kernels::AttentionSeq& seq : data.seqs) {
      params.seqs = {&seq, 1};
      const OwnedSelection one = select_pages(params, stream);
      indices.insert(indices.end(), one.indices.begin(), one.indices.end());
      alone.insert(alone.end(), ranks.begin(), ranks.end());
    }
    EXPECT_EQ(indices, want.indices);
    EXPECT_EQ(alone, want_ranks);
  }
}

TEST_F(RocketSelect, ChannelsOfTopr) {
  EXPECT_EQ(num_channels(int64_t{128}, 64), 64);
  EXPECT_EQ(num_channels(int64_t{48}, 64), 48);
  EXPECT_EQ(num_channels(int64_t{1}, 64), 1);
  EXPECT_EQ(num_channels(1.0, 64), 64);
  EXPECT_EQ(num_channels(0.5, 64), 32);
  EXPECT_EQ(num_channels(0.51, 64), 33);
  EXPECT_EQ(num_channels(1e-9, 64), 1);
  EXPECT_THROW(num_channels(int64_t{0}, 64), Error);
  EXPECT_THROW(num_channels(0.0, 64), Error);
  EXPECT_THROW(num_channels(1.5, 64), Error);
  EXPECT_THROW(num_channels(std::nan(""), 64), Error);
}

TEST_F(RocketSelect, Refuses) {
  Case data({.lens = {64}}, seed, stream);
  const auto refused = [&](auto change) {
    PageSelectParams params = data.select(4);
    change(params);
    EXPECT_THROW(select_pages(params, stream), Error);
  };
  refused([](PageSelectParams& params) { params.topk = 0; });
  refused([](PageSelectParams& params) { params.num_channels = 33; });
  refused([](PageSelectParams& params) { params.num_heads = 5; });
  refused([](PageSelectParams& params) { params.q_stride = 1; });
  refused([](PageSelectParams& params) { params.bounds.page_size = 8; });
  refused([](PageSelectParams& params) { params.softmax_scale = NAN; });
  refused([](PageSelectParams& params) { params.recent = 0; });
  refused([](PageSelectParams& params) { params.sink = 4; });
  const OwnedSelection rows{.kind = SelectionKind::kPages, .offsets = {0, 1, 2}, .indices = {1, 1}};
  const auto refuses_candidates = [&](const PageCandidates& candidates) {
    refused([&](PageSelectParams& params) { params.candidates = {&candidates, 1}; });
  };
  refuses_candidates({.prompt = &rows, .first_new = 1});
  refuses_candidates({.prompt = &rows, .first_new = 16});
  const OwnedSelection one{.kind = SelectionKind::kPages, .offsets = {0, 1}, .indices = {1}};
  refuses_candidates({.prompt = &one, .first_new = 2});
  data.seqs[0].q_len = 2;
  refused([](PageSelectParams&) {});
}

}  // namespace
}  // namespace foveal::attention::rocket

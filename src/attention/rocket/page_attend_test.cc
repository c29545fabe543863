#include "attention/rocket/page_attend.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numbers>
#include <numeric>
#include <random>

#include "attention/rocket/rocket_testing.h"
#include "base/math.h"
#include "foveal/error.h"

namespace foveal::attention::rocket {
namespace {

using testing::Case;
using testing::CaseShape;

struct RocketAttend : ::testing::Test {
  void TearDown() override { kernels::cpu::set_active_isa(kernels::cpu::machine_isa()); }

  uint64_t seed = std::random_device{}();
  ThreadPool pool{2};
  Stream stream{Device{}, pool};
};

/// About `share` of each (sequence, KV head)'s pages, at least one.
OwnedSelection random_pages(const Case& data, double share, uint64_t seed) {
  std::mt19937_64 rng(seed);
  OwnedSelection out{.kind = SelectionKind::kPages, .offsets = {0}};
  for (const kernels::AttentionSeq& seq : data.seqs) {
    const auto pages = static_cast<int32_t>(ceil_div(seq.kv_len, data.shape.page_size));
    for (int32_t head = 0; head < data.shape.num_kv_heads; ++head) {
      for (int32_t page = 0; page < pages; ++page) {
        const bool last_chance = page + 1 == pages && std::ssize(out.indices) == out.offsets.back();
        if (last_chance || static_cast<double>(rng() % 1000) < 1000 * share) {
          out.indices.push_back(page);
        }
      }
      out.offsets.push_back(static_cast<int32_t>(out.indices.size()));
    }
  }
  return out;
}

std::vector<float> run(Case& data, const OwnedSelection& selection, Stream& stream) {
  std::fill(data.out.begin(), data.out.end(), NAN);
  attend_pages(data.attend(), selection.view(), data.shape.page_size, stream);
  return data.out;
}

void check_against_reference(Case& data, const OwnedSelection& selection, Stream& stream) {
  const std::vector<float> got = run(data, selection, stream);
  const int32_t dim = data.shape.head_dim;
  const bool rounded = testing::rounds(data);
  for (int32_t seq = 0; seq < std::ssize(data.seqs); ++seq) {
    for (int32_t head = 0; head < data.shape.num_kv_heads * data.shape.group; ++head) {
      const int64_t row = int64_t{seq} * data.shape.num_kv_heads + head / data.shape.group;
      std::vector<int32_t> tokens;
      for (int32_t at = selection.offsets[row]; at < selection.offsets[row + 1]; ++at) {
        for (int32_t idx = 0; idx < data.shape.page_size; ++idx) {
          const int32_t token = selection.indices[at] * data.shape.page_size + idx;
          if (token < data.seqs[seq].kv_len) tokens.push_back(token);
        }
      }
      const auto want = reference::attention(data, seq, head, tokens, rounded);
      // As for dense attention: a weight is off by its score's error and exp2's, on the bf16 path
      // by half a bf16 ulp and the coarse exp2's; in numerator and denominator, whose sums round.
      const double weight = want.norm * (dim + 2) * 0x1p-24 * std::numbers::ln2 + 4e-7 +
                            (rounded ? 0x1p-9 + 1.6e-4 : 0);
      const double sums = (static_cast<double>(tokens.size()) + 64) * 0x1p-23;
      for (int32_t ch = 0; ch < dim; ++ch) {
        ASSERT_NEAR(got[seq * data.width() + head * dim + ch], want.out[ch],
                    (2 * weight + sums) * want.magnitude[ch] + 1e-30)
            << "seq " << seq << " head " << head << " channel " << ch;
      }
    }
  }
}

TEST_F(RocketAttend, MatchesReferenceOverTypesAndHeadDims) {
  for (const kernels::cpu::Isa isa : testing::isa_levels()) {
    kernels::cpu::set_active_isa(isa);
    for (const DType dtype : {DType::kBF16, DType::kF16, DType::kF32}) {
      for (const int32_t head_dim : {2, 46, 64, 80, 128, 256}) {
        SCOPED_TRACE(::testing::Message() << kernels::cpu::isa_name(isa) << " " << dtype_name(dtype)
                                          << " dim " << head_dim << " seed " << seed);
        Case data({.head_dim = head_dim, .dtype = dtype, .lens = {77, 1, 203}}, seed++, stream);
        ASSERT_NO_FATAL_FAILURE(
            check_against_reference(data, random_pages(data, 0.3, seed), stream));
      }
    }
  }
}

TEST_F(RocketAttend, MatchesReferenceOverGroupsAndPages) {
  for (const kernels::cpu::Isa isa : testing::isa_levels()) {
    kernels::cpu::set_active_isa(isa);
    for (const int32_t group : {1, 2, 3, 4, 5, 8, 9}) {
      for (const int32_t page_size : {1, 2, 4, 16, 32}) {
        SCOPED_TRACE(::testing::Message() << kernels::cpu::isa_name(isa) << " group " << group
                                          << " page " << page_size << " seed " << seed);
        Case data({.group = group,
                   .head_dim = 16,
                   .cache_page = page_size == 32 ? 32 : 48,
                   .page_size = page_size,
                   .lens = {131, 16, 17, 2}},
                  seed++, stream);
        for (const double share : {0.0, 0.2, 0.9}) {
          ASSERT_NO_FATAL_FAILURE(
              check_against_reference(data, random_pages(data, share, seed), stream));
        }
      }
    }
  }
}

TEST_F(RocketAttend, MatchesReferenceOverSplits) {
  for (const kernels::cpu::Isa isa : testing::isa_levels()) {
    kernels::cpu::set_active_isa(isa);
    for (const double share : {0.05, 0.4, 0.99}) {
      SCOPED_TRACE(::testing::Message() << kernels::cpu::isa_name(isa) << " seed " << seed);
      Case data({.num_kv_heads = 1, .head_dim = 32, .lens = {2050, 530}}, seed++, stream);
      ASSERT_NO_FATAL_FAILURE(
          check_against_reference(data, random_pages(data, share, seed), stream));
    }
  }
}

TEST_F(RocketAttend, AllPagesAreDenseBitForBit) {
  for (const kernels::cpu::Isa isa : testing::isa_levels()) {
    kernels::cpu::set_active_isa(isa);
    for (const DType dtype : {DType::kBF16, DType::kF16, DType::kF32}) {
      Case data({.dtype = dtype, .lens = {700, 1, 64, 33}}, seed++, stream);
      std::vector<kernels::AttentionCounters> counters(4);
      kernels::PagedAttentionParams params = data.attend();
      params.counters = counters.data();
      kernels::paged_decode(params, stream);
      const std::vector<float> want = data.out;
      const OwnedSelection all = select_pages(data.select(175), stream);
      EXPECT_EQ(run(data, all, stream), want);
      attend_pages(data.attend(), {}, 4, stream);
      EXPECT_EQ(data.out, want);
      std::vector<kernels::AttentionCounters> mine(4);
      params.counters = mine.data();
      attend_pages(params, all.view(), 4, stream);
      for (size_t seq = 0; seq < 4; ++seq) {
        EXPECT_EQ(mine[seq].pairs, counters[seq].pairs);
        EXPECT_EQ(mine[seq].pairs_used, counters[seq].pairs);
      }
    }
  }
}

TEST_F(RocketAttend, CountersAreWhatWasSelected) {
  Case data({.num_kv_heads = 2, .group = 3, .lens = {402}}, seed, stream);
  const OwnedSelection selection = select_pages(data.select(10), stream);
  kernels::AttentionCounters counters;
  kernels::PagedAttentionParams params = data.attend();
  params.counters = &counters;
  attend_pages(params, selection.view(), 4, stream);
  EXPECT_EQ(counters.pairs, 6U * 402);
  EXPECT_EQ(counters.pairs_used, 6U * (9 * 4 + 2));  // the newest page has two tokens
}

TEST_F(RocketAttend, ThreadsAndBatchChangeNoBit) {
  for (const kernels::cpu::Isa isa : testing::isa_levels()) {
    kernels::cpu::set_active_isa(isa);
    Case data({.lens = {3000, 3, 700, 64}}, seed++, stream);
    const OwnedSelection selection = random_pages(data, 0.4, seed);
    const std::vector<float> want = run(data, selection, stream);
    for (const int threads : {1, 3}) {
      ThreadPool other(threads);
      Stream other_stream(Device{}, other);
      EXPECT_EQ(run(data, selection, other_stream), want);
    }
    std::fill(data.out.begin(), data.out.end(), NAN);
    for (size_t seq = 0; seq < data.seqs.size(); ++seq) {
      kernels::PagedAttentionParams params = data.attend();
      params.seqs = {&data.seqs[seq], 1};
      const Selection one{.kind = SelectionKind::kPages,
                          .num_rows = 2,
                          .offsets = selection.offsets.data() + 2 * seq,
                          .indices = selection.indices.data()};
      attend_pages(params, one, 4, stream);
    }
    EXPECT_EQ(data.out, want);
  }
}

TEST_F(RocketAttend, Refuses) {
  Case data({.num_kv_heads = 1, .lens = {64}}, seed, stream);
  const auto refused = [&](std::vector<int32_t> indices, auto change) {
    OwnedSelection selection{.kind = SelectionKind::kPages,
                             .offsets = {0, static_cast<int32_t>(indices.size())},
                             .indices = std::move(indices)};
    kernels::PagedAttentionParams params = data.attend();
    Selection view = selection.view();
    change(params, view);
    EXPECT_THROW(attend_pages(params, view, 4, stream), Error);
  };
  const auto nothing = [](kernels::PagedAttentionParams&, Selection&) {};
  refused({}, nothing);
  refused({3, 2}, nothing);
  refused({2, 2}, nothing);
  refused({16}, nothing);
  refused({-1}, nothing);
  refused({1}, [](kernels::PagedAttentionParams& params, Selection&) { params.window = 8; });
  refused({1}, [](kernels::PagedAttentionParams& params, Selection&) { params.skip_factor = 1; });
  refused({1}, [](kernels::PagedAttentionParams&, Selection& view) { view.num_rows = 2; });
  refused({1}, [](kernels::PagedAttentionParams&, Selection& view) {
    view.kind = SelectionKind::kTokens;
  });
}

}  // namespace
}  // namespace foveal::attention::rocket

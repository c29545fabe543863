#include <gtest/gtest.h>

#include "base/math.h"
#include "kernels/cuda/prefill_plan.h"
#include "kernels/cuda/prefill_testing.h"
#include "kernels/cuda/prefill_vote.h"
#include "kernels/cuda/prefill_vote_reference.h"

namespace foveal::kernels::cuda::testing {
namespace {

using foveal::cuda::kKeptRows;

class PrefillVoteTest : public PrefillTest {
 protected:
  static constexpr uint32_t kUntouched = 0xA5A5A5A5;

  struct Votes {
    std::vector<uint32_t> bits;
    std::vector<uint64_t> counters;
  };

  int32_t tile_keys() const { return foveal::cuda::prefill_keys(what.head_dim); }
  int32_t words() const { return foveal::cuda::kept_words(longest(), tile_keys()); }
  int64_t blocks() const {
    return foveal::cuda::kept_blocks(cu_q.back(), static_cast<int64_t>(what.seqs.size()));
  }
  int64_t scratch_rows() const {
    int64_t rows = 0;
    for (const auto& seq : what.seqs) rows += round_up(int64_t{seq.second}, int64_t{128});
    return rows;
  }

  /// Votes twice, which must give the same; counters are added to twice.
  Votes cast() {
    foveal_attention_params p = params();
    std::vector<int32_t> table, lengths;
    for (const auto& seq : what.seqs) lengths.push_back(seq.second);
    const bool pages = what.page_size > 0;
    const auto k_device = upload(encoded(pages ? paged(k, table) : k, false));
    const auto q_device = upload(encoded(q, false));
    const auto table_device = upload(table);
    const auto lengths_device = upload(lengths);
    const auto cu_q_device = upload(cu_q);
    const auto cu_k_device = upload(cu_k);
    const auto counters = upload(std::vector<uint64_t>(what.seqs.size() * 4));
    const auto starts = upload(std::vector<int32_t>(what.seqs.size() + 1));
    const auto counter = upload(std::vector<uint32_t>(1));
    const int64_t bytes = scratch_rows() * what.kv_heads * vote_key_bytes(what.head_dim);
    const auto keys = upload(std::vector<uint8_t>(static_cast<size_t>(bytes), 0xff));
    const std::vector<uint32_t> untouched(static_cast<size_t>(blocks() * what.heads * words()),
                                          kUntouched);
    const auto bits = upload(untouched);
    p.q = q_device.data();
    p.k = k_device.data();
    p.cu_q = cu_q_device.data();
    p.cu_k = cu_k_device.data();
    p.kv_len = lengths_device.data();
    p.page_table = pages ? table_device.data() : nullptr;
    p.counters = counters.data();
    const VoteScratch scratch{.starts = starts.data(),
                              .keys = reinterpret_cast<std::byte*>(keys.data()),
                              .rows = scratch_rows(),
                              .counter = counter.data()};
    prefill_vote(p, scratch, {.bits = bits.data(), .words = words()}, stream_.native());
    Votes out{bits.download(), {}};
    prefill_vote(p, scratch, {.bits = bits.data(), .words = words()}, stream_.native());
    EXPECT_EQ(out.bits, bits.download()) << "two runs differ";
    EXPECT_EQ(counter.download(), std::vector<uint32_t>(1)) << "the counter of work";
    out.counters = counters.download();
    return out;
  }

  float threshold(size_t seq) const {
    const auto length = static_cast<float>(what.seqs[seq].second);
    return what.skip_factor > 0 && what.skip_factor < length
               ? std::log2(what.skip_factor / length)
               : -std::numeric_limits<float>::infinity();
  }

  Int8Rows rounded_keys(size_t seq, int32_t kv_head) const {
    std::vector<float> keys;
    for (int32_t key = 0; key < what.seqs[seq].second; ++key) {
      const float* row = &k[k_at(cu_k[seq] + key, kv_head)];
      keys.insert(keys.end(), row, row + what.head_dim);
    }
    return round_keys(keys, what.head_dim, tile_keys(), what.window > 0);
  }

  UnitVotes unit_votes(size_t seq, int32_t head, int32_t first, const Int8Rows& keys) const {
    std::vector<float> queries;
    for (int32_t row = first; row < std::min(first + kKeptRows, what.seqs[seq].first); ++row) {
      const float* query = &q[q_at(cu_q[seq] + row, head)];
      queries.insert(queries.end(), query, query + what.head_dim);
    }
    return vote_by_int8(queries, keys,
                        {.position = what.seqs[seq].second - what.seqs[seq].first + first,
                         .channels = what.head_dim,
                         .tile_keys = tile_keys(),
                         .window = what.window,
                         .scale_log2 = prefill_args(params(), 0, 0, 0).scale_log2,
                         .threshold = threshold(seq)});
  }

  /// Compares a unit's words and adds to `counters` what it should.
  void compare_unit(const UnitVotes& want, const uint32_t* got, uint64_t* counters) {
    std::vector<uint32_t> bits(static_cast<size_t>(words()), kUntouched);
    const auto tiles = static_cast<int32_t>(want.kept.size());
    for (int32_t tile = 0; tile < tiles; ++tile) {
      const auto at = static_cast<size_t>(tile);
      if (want.pairs[at] == 0) continue;
      uint32_t& word = bits[at / 32];
      const uint32_t bit = uint32_t{1} << at % 32;
      if (word == kUntouched) word = 0;
      // Where the device's logarithm decides, it may.
      const bool kept = want.close[at] ? (got[at / 32] & bit) != 0 : want.kept[at];
      if (kept) word |= bit;
      counters[0] += want.pairs[at];
      counters[1] += kept ? want.pairs[at] : 0;
      counters[2] += 1;
      counters[3] += kept ? 0 : 1;
      ++(kept ? num_kept : num_dropped);
    }
    ASSERT_EQ(std::vector<uint32_t>(got, got + words()), bits);
  }

  void expect_votes() {
    const Votes got = cast();
    std::vector<uint64_t> counters(what.seqs.size() * 4);
    for (size_t seq = 0; seq < what.seqs.size(); ++seq) {
      for (int32_t head = 0; head < what.heads; ++head) {
        const Int8Rows keys = rounded_keys(seq, head / (what.heads / what.kv_heads));
        for (int32_t first = 0; first < what.seqs[seq].first; first += kKeptRows) {
          SCOPED_TRACE(::testing::Message()
                       << "sequence " << seq << ", head " << head << ", row " << first);
          const int64_t block =
              foveal::cuda::kept_first_block(cu_q[seq], static_cast<int32_t>(seq)) +
              first / kKeptRows;
          const auto at = static_cast<size_t>((block * what.heads + head) * words());
          compare_unit(unit_votes(seq, head, first, keys), &got.bits[at], &counters[seq * 4]);
          if (HasFatalFailure()) return;
        }
      }
    }
    for (uint64_t& count : counters) count *= 2;
    EXPECT_EQ(got.counters, counters);
  }

  int64_t num_kept = 0;
  int64_t num_dropped = 0;
};

TEST_F(PrefillVoteTest, EveryHeadDimGroupAndType) {
  for (const int32_t head_dim : {64, 96, 128, 192, 256}) {
    for (const int32_t group : {1, 2, 3, 8}) {
      SCOPED_TRACE(::testing::Message() << head_dim << ' ' << group);
      make({.seqs = {{700, 700}, {130, 1400}},
            .heads = group,
            .kv_heads = 1,
            .head_dim = head_dim,
            .page_size = 32,
            .f16 = group % 2 == 0,
            .q_spread = 4,
            .skip_factor = 150});
      expect_votes();
    }
  }
  EXPECT_GT(num_kept, 1000);
  EXPECT_GT(num_dropped, 1000);
}

TEST_F(PrefillVoteTest, ShortAndOdd) {
  for (const auto& seqs : std::vector<std::vector<std::pair<int32_t, int32_t>>>{
           {{1, 1}}, {{128, 128}}, {{129, 129}}, {{77, 1000}}, {{130, 130}, {1, 5}, {64, 999}}}) {
    for (const int32_t page : {0, 64}) {
      make({.seqs = seqs, .page_size = page, .q_spread = 4, .skip_factor = 40});
      expect_votes();
    }
  }
}

// More than 32 tiles: several words a unit, and a last one that is not full.
TEST_F(PrefillVoteTest, SeveralWords) {
  for (const int32_t keys : {32 * 128, 33 * 128 + 5, 9000}) {
    make({.seqs = {{300, keys}}, .kv_heads = 1, .q_spread = 4, .skip_factor = 900});
    expect_votes();
  }
}

TEST_F(PrefillVoteTest, Windows) {
  for (const int32_t window : {1, 100, 300, 5000}) {
    for (const int32_t head_dim : {64, 128, 256}) {
      SCOPED_TRACE(::testing::Message() << window << ' ' << head_dim);
      make({.seqs = {{300, 5500}, {700, 700}},
            .heads = 2,
            .kv_heads = 1,
            .head_dim = head_dim,
            .page_size = 16,
            .window = window,
            .q_spread = 4,
            .skip_factor = 200});
      expect_votes();
    }
  }
}

TEST_F(PrefillVoteTest, SixtyFourRaggedSequences) {
  PrefillCase given{.heads = 2, .kv_heads = 1, .page_size = 32, .q_spread = 4, .skip_factor = 60};
  for (int32_t seq = 0; seq < 64; ++seq) {
    const auto queries = static_cast<int32_t>(rng_() % 100);
    given.seqs.emplace_back(queries, queries + static_cast<int32_t>(rng_() % 600));
  }
  make(given);
  expect_votes();
}

// Where a prompt is cut at multiples of a tile, its rows vote as in one piece.
TEST_F(PrefillVoteTest, CutsBetweenTilesChangeNothing) {
  make({.seqs = {{1280, 1280}}, .heads = 2, .kv_heads = 1, .q_spread = 4, .skip_factor = 150});
  const std::vector<uint32_t> together = cast().bits;
  const auto unit = static_cast<ptrdiff_t>(what.heads) * words();
  for (const int32_t cut : {128, 640}) {
    const auto moved = static_cast<ptrdiff_t>(q_at(cut, 0));
    const std::vector<float> all = std::exchange(q, {q.begin() + moved, q.end()});
    what.seqs[0].first = cu_q.back() = 1280 - cut;
    const std::vector<uint32_t> rest = cast().bits;
    const auto from = together.begin() + cut / kKeptRows * unit;
    EXPECT_TRUE(std::equal(rest.begin(), rest.end() - unit, from)) << cut;
    q = all;
    what.seqs[0].first = cu_q.back() = 1280;
  }
}

TEST_F(PrefillVoteTest, AFactorOfTheLengthKeepsAll) {
  make({.seqs = {{300, 900}}, .q_spread = 4, .skip_factor = 900});
  expect_votes();
  EXPECT_EQ(num_dropped, 0);
}

// Zeros have no scale: all scores are equal then, and nothing lies below what came before.
TEST_F(PrefillVoteTest, KeysAndQueriesOfZeros) {
  make({.seqs = {{300, 900}}, .skip_factor = 100});
  std::fill(k.begin() + static_cast<ptrdiff_t>(k_at(256, 0)), k.end(), 0.0F);
  std::fill(q.begin(), q.begin() + static_cast<ptrdiff_t>(q_at(64, 0)), 0.0F);
  expect_votes();
}

}  // namespace
}  // namespace foveal::kernels::cuda::testing

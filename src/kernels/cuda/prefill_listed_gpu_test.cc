#include <gtest/gtest.h>

#include <cstring>
#include <optional>

#include "kernels/cuda/prefill_testing.h"

// Attention over lists of tiles: lists at random, and those of votes in int8.

namespace foveal::kernels::cuda::testing {
namespace {

/// The definition over the tiles that `kept_bits` lists.
class PrefillKeptTest : public PrefillTest {
 protected:
  int32_t tile_keys() const { return prefill_tiling(params()).keys; }
  int32_t words() const { return foveal::cuda::kept_words(longest(), tile_keys()); }
  size_t num_words() const {
    const auto seqs = static_cast<int64_t>(what.seqs.size());
    const int64_t blocks = foveal::cuda::kept_blocks(cu_q.back(), seqs);
    return static_cast<size_t>(blocks * what.heads * words());
  }

  /// [first, end) of the tiles of which a row of the unit sees a key.
  std::pair<int32_t, int32_t> tiles_seen(size_t seq, int32_t unit) const {
    const auto [queries, keys] = what.seqs[seq];
    const int32_t position = keys - queries + unit * kVoteRows;
    const int32_t end = position + std::min(kVoteRows, queries - unit * kVoteRows);
    const int32_t low = what.window > 0 ? std::max(0, position - what.window + 1) : 0;
    return {low / tile_keys(), (end + tile_keys() - 1) / tile_keys()};
  }

  /// Of its words.
  size_t unit_at(size_t seq, int32_t unit, int32_t head) const {
    const int64_t block =
        foveal::cuda::kept_first_block(cu_q[seq], static_cast<int32_t>(seq)) + unit;
    return static_cast<size_t>((block * what.heads + head) * words());
  }

  void vote(size_t seq, int32_t unit, int32_t head, std::vector<std::vector<double>>& unit_scores,
            Truth& /*truth*/) const override {
    const auto [first, end] = tiles_seen(seq, unit);
    const uint32_t* unit_words = &kept_bits[unit_at(seq, unit, head)];
    for (int32_t tile = first; tile < end; ++tile) {
      if ((unit_words[tile / 32] >> tile % 32 & 1) == 0) drop_tile(unit_scores, tile, tile_keys());
    }
  }

  std::vector<uint32_t> kept_bits;
};

class PrefillListedTest : public PrefillKeptTest {
 protected:
  /// A tile is kept for a unit with probability `share`.
  void expect_right_lists(const PrefillCase& given, double share) {
    make(given);
    keep_some(share);
    expect_right();
  }

  /// Words that no row of the unit sees stay full of ones: nobody may read them.
  void keep_some(double share) {
    std::bernoulli_distribution draw(share);
    kept_bits.assign(num_words(), ~0U);
    for (size_t seq = 0; seq < what.seqs.size(); ++seq) {
      for (int32_t unit = 0; unit * kVoteRows < what.seqs[seq].first; ++unit) {
        for (int32_t head = 0; head < what.heads; ++head) draw_unit(seq, unit, head, draw);
      }
    }
    on_device_.emplace(upload(kept_bits));
    kept_ = {.bits = on_device_->data(), .words = words()};
  }

  void draw_unit(size_t seq, int32_t unit, int32_t head, std::bernoulli_distribution& draw) {
    const auto [first, end] = tiles_seen(seq, unit);
    uint32_t* unit_words = &kept_bits[unit_at(seq, unit, head)];
    for (int32_t word = first / 32; word * 32 < end; ++word) unit_words[word] = 0;
    for (int32_t tile = first; tile < end; ++tile) {
      if (draw(rng_)) unit_words[tile / 32] |= 1U << tile % 32;
    }
  }

  void call(const foveal_attention_params& p) override {
    launch_prefill(p, p.num_heads, {}, kept_, stream_.native());
  }

  foveal::cuda::KeptTiles kept_;
  std::optional<DeviceArray<uint32_t>> on_device_;
};

TEST_F(PrefillListedTest, AnyListOfTiles) {
  for (const double share : {0.0, 0.1, 0.5, 0.9, 1.0}) {
    SCOPED_TRACE(share);
    expect_right_lists({.seqs = {{200, 1300}, {1, 40}, {64, 64}, {129, 300}}, .heads = 2}, share);
    expect_right_lists({.seqs = {{140, 2500}}, .heads = 2, .page_size = 16}, share);
  }
}

TEST_F(PrefillListedTest, EveryHeadDimAndType) {
  for (const int32_t head_dim : {64, 96, 128, 192, 256}) {
    for (const int32_t group : {1, 2, 3}) {
      SCOPED_TRACE(::testing::Message() << head_dim << ' ' << group);
      expect_right_lists({.seqs = {{250, 1260}, {20, 70}},
                          .heads = group,
                          .kv_heads = 1,
                          .head_dim = head_dim,
                          .page_size = group == 3 ? 0 : 32,
                          .f16 = group == 2},
                         0.4);
    }
  }
}

TEST_F(PrefillListedTest, Windows) {
  for (const int32_t window : {1, 100, 600}) {
    SCOPED_TRACE(window);
    expect_right_lists({.seqs = {{300, 1500}, {40, 40}}, .page_size = 16, .window = window}, 0.5);
  }
}

// Past the words of 32 lanes, and runs of pages that are left out.
TEST_F(PrefillListedTest, LongSequences) {
  expect_right_lists(
      {.seqs = {{70, 140000}}, .heads = 2, .kv_heads = 1, .head_dim = 64, .page_size = 16}, 0.03);
}

TEST_F(PrefillListedTest, AllTilesAreDenseAttentionBitForBit) {
  for (const int32_t head_dim : {64, 128, 256}) {
    SCOPED_TRACE(head_dim);
    make({.seqs = {{300, 1300}, {129, 129}}, .head_dim = head_dim, .q_spread = 20});
    keep_some(1);
    const Result listed = run(kPrefillCounterBytes);
    kept_ = {};
    const Result dense = run(kPrefillCounterBytes);
    EXPECT_EQ(listed.out, dense.out);
    EXPECT_EQ(listed.lse, dense.lse);
  }
}

/// Calls of the entry with votes in int8.
class PrefillInt8VotesTest : public PrefillKeptTest {
 protected:
  /// Attention over the tiles that were kept, some of which are not all.
  void expect_right_given_votes(PrefillCase given) {
    given.int8_votes = true;
    make(given);
    const Result got = run(prefill_workspace_bytes(params()));
    take_bits();
    compare(truth(), got.out, got.lse);
    uint64_t skipped = 0;
    for (size_t seq = 0; seq < what.seqs.size(); ++seq) skipped += got.counters[seq * 4 + 3];
    EXPECT_GT(skipped, 0U);
  }

  void take_bits() {
    const int64_t at = kept_offset(static_cast<int64_t>(what.seqs.size()));
    kept_bits.resize(num_words());
    std::memcpy(kept_bits.data(), &left_in_workspace[static_cast<size_t>(at)],
                kept_bits.size() * sizeof(uint32_t));
  }
};

TEST_F(PrefillInt8VotesTest, AttendToAllThatIsKept) {
  for (const int32_t head_dim : {64, 96, 128, 192, 256}) {
    for (const bool e4m3_cache : {false, true}) {
      for (const int32_t window : {0, 500}) {
        SCOPED_TRACE(::testing::Message() << head_dim << ' ' << e4m3_cache << ' ' << window);
        expect_right_given_votes({.seqs = {{260, 1300}, {130, 700}, {1, 40}},
                                  .heads = 2,
                                  .kv_heads = 1,
                                  .head_dim = head_dim,
                                  .page_size = 16,
                                  .f16 = head_dim == 96,
                                  .e4m3_cache = e4m3_cache,
                                  .window = window,
                                  .q_spread = 4,
                                  .skip_factor = 300});
      }
    }
  }
}

TEST_F(PrefillInt8VotesTest, DropNearlyWhatExactVotesDrop) {
  make({.seqs = {{1000, 4000}}, .q_spread = 4, .skip_factor = 500});
  const Result exact = run(prefill_workspace_bytes(params()));
  what.int8_votes = true;
  const Result int8 = run(prefill_workspace_bytes(params()));
  EXPECT_EQ(int8.counters[0], exact.counters[0]) << "pairs";
  EXPECT_EQ(int8.counters[2], exact.counters[2]) << "tiles";
  const auto share = [](const Result& of) {
    return static_cast<double>(of.counters[3]) / static_cast<double>(of.counters[2]);
  };
  EXPECT_GT(share(exact), 0.2);
  EXPECT_NEAR(share(int8), share(exact), 0.02);
}

TEST_F(PrefillInt8VotesTest, PiecesChangeNothing) {
  make({.seqs = {{100, 900}, {60, 60}, {1, 128}, {130, 300}, {7, 129}},
        .heads = 12,
        .kv_heads = 3,
        .q_spread = 4,
        .skip_factor = 30,
        .int8_votes = true});
  const Result whole = run(prefill_workspace_bytes(params()));
  const ScratchShape shape = scratch_shape(params());
  const int64_t least = least_scratch_bytes(shape);
  const int64_t head = scratch_rows_of_all(shape) * shape.key_bytes;
  for (const int64_t bytes : {least, least + least / 2, scratch_offset(shape) + 2 * head}) {
    SCOPED_TRACE(bytes);
    const Result pieces = run(static_cast<size_t>(bytes));
    EXPECT_EQ(pieces.out, whole.out);
    EXPECT_EQ(pieces.lse, whole.lse);
    EXPECT_EQ(pieces.counters, whole.counters);
  }
}

}  // namespace
}  // namespace foveal::kernels::cuda::testing

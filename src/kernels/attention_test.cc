#include <gtest/gtest.h>

#include <algorithm>
#include <optional>
#include <random>

#include "kernels/attention_testing.h"

namespace foveal::kernels {
namespace {

using testing::AttentionCase;
using testing::CaseShape;

struct AttentionTest : ::testing::Test {
  void TearDown() override { cpu::set_active_isa(cpu::machine_isa()); }

  uint64_t seed = std::random_device{}();
  ThreadPool pool{2};
  Stream stream{Device{}, pool};
};

constexpr AttentionPhase kPhases[] = {AttentionPhase::kPrefill, AttentionPhase::kDecode};

/// The same keys, one row a sequence.
CaseShape for_phase(CaseShape shape, AttentionPhase phase) {
  if (phase == AttentionPhase::kDecode) {
    for (auto& [q_len, kv_len] : shape.seqs) q_len = 1;
  }
  return shape;
}

void check_everywhere(const CaseShape& shape, uint64_t seed, Stream& stream) {
  for (const AttentionPhase phase : kPhases) {
    std::optional<reference::AttentionResult> want[2];  // one for the levels that round
    for (const cpu::Isa isa : testing::isa_levels()) {
      SCOPED_TRACE(::testing::Message()
                   << cpu::isa_name(isa)
                   << (phase == AttentionPhase::kDecode ? " decode" : " prefill") << " dtype "
                   << dtype_name(shape.dtype) << " dim " << shape.head_dim << " group "
                   << shape.group << " page " << shape.page_size << " window " << shape.window
                   << " factor " << shape.skip_factor << " exact " << shape.exact << " seed "
                   << seed);
      cpu::set_active_isa(isa);
      AttentionCase data(for_phase(shape, phase), seed, stream);
      const bool rounded = testing::rounds(data);
      if (!want[rounded]) want[rounded] = reference::attention(data.params(), phase, rounded);
      testing::expect_matches(data, phase, *want[rounded], stream);
    }
  }
}

TEST_F(AttentionTest, MatchesReferenceOverTypesAndHeadDims) {
  for (const DType dtype : {DType::kBF16, DType::kF16, DType::kF32}) {
    for (const int32_t head_dim : {2, 32, 46, 64, 80, 96, 128, 256}) {
      check_everywhere({.group = 3,
                        .head_dim = head_dim,
                        .page_size = 32,
                        .dtype = dtype,
                        .seqs = {{37, 77}, {1, 1}}},
                       seed++, stream);
    }
  }
}

TEST_F(AttentionTest, MatchesReferenceOverGroupsAndPages) {
  for (const int32_t group : {1, 2, 4, 5, 8, 9}) {
    for (const int32_t page_size : {16, 32, 64, 128}) {
      check_everywhere({.num_kv_heads = 2,
                        .group = group,
                        .head_dim = 32,
                        .page_size = page_size,
                        .exact = group == 2,
                        .seqs = {{5, 131}, {33, 33}, {16, 17}}},
                       seed++, stream);
    }
  }
}

TEST_F(AttentionTest, MatchesReferenceWithWindows) {
  for (const int32_t window : {1, 7, 16, 33, 64, 100, 1000}) {
    check_everywhere({.group = 2,
                      .head_dim = 16,
                      .page_size = 16,
                      .window = window,
                      .seqs = {{70, 150}, {3, 40}, {1, 600}}},
                     seed++, stream);
  }
}

TEST_F(AttentionTest, MatchesReferenceWhenTilesAreSkipped) {
  for (const float factor : {2.0F, 20.0F, 80.0F}) {
    for (const int32_t window : {0, 75}) {
      for (const float spread : {2.0F, 4.0F}) {
        check_everywhere({.num_kv_heads = 1,
                          .group = 3,
                          .head_dim = 64,
                          .page_size = 64,
                          .window = window,
                          .skip_factor = factor,
                          .spread = spread,
                          .tile_spread = spread,
                          .seqs = {{48, 208}, {100, 100}, {32, 160}}},
                         seed++, stream);
      }
    }
  }
}

// Tile by tile, where no vote of the unit is within float32's reach of the threshold.
TEST_F(AttentionTest, TileMapIsTheReferencesVotes) {
  for (const AttentionPhase phase : kPhases) {
    for (const cpu::Isa isa : testing::isa_levels()) {
      SCOPED_TRACE(::testing::Message() << cpu::isa_name(isa) << " seed " << seed);
      cpu::set_active_isa(isa);
      AttentionCase data(for_phase({.num_kv_heads = 2,
                                    .group = 3,
                                    .head_dim = 32,
                                    .page_size = 32,
                                    .skip_factor = 40,
                                    .spread = 2,
                                    .tile_spread = 3,
                                    .exact = true,
                                    .seqs = {{87, 599}}},
                                   phase),
                         seed++, stream);
      const bool decode = phase == AttentionPhase::kDecode;
      const int32_t heads = decode ? data.shape.num_kv_heads : data.params().num_heads;
      const int64_t cols = 20;  // one more than 599 keys have
      const int32_t first = decode ? 0 : (599 - 87) / kQueryTile;
      std::vector<uint8_t> map(static_cast<size_t>((decode ? 1 : 6) * heads * cols));
      PagedAttentionParams params = data.params();
      params.tile_map = {.tiles = map.data(), .stride = cols};
      (decode ? paged_decode : paged_prefill)(params, stream);

      const reference::AttentionResult want = reference::attention(params, phase, false);
      const auto unit_of = [&](const reference::TileVote& vote) {
        return (decode ? 0 : vote.query_tile - first) * heads + vote.head;
      };
      std::vector<bool> unsure(map.size() / cols);
      for (const reference::TileVote& vote : want.votes) {
        if (vote.margin < 1e-3) unsure[static_cast<size_t>(unit_of(vote))] = true;
      }
      std::vector<uint8_t> expected(map.size());
      int64_t dropped = 0;
      for (const reference::TileVote& vote : want.votes) {
        expected[static_cast<size_t>(unit_of(vote) * cols + vote.key_tile)] = vote.dropped ? 2 : 1;
        dropped += vote.dropped ? 1 : 0;
      }
      EXPECT_GT(dropped, 0);
      EXPECT_LT(std::count(unsure.begin(), unsure.end(), true), std::ssize(unsure) / 2 + 1);
      for (size_t at = 0; at < map.size(); ++at) {
        if (!unsure[at / cols]) {
          EXPECT_EQ(int{map[at]}, int{expected[at]}) << at;
        }
      }
    }
  }
}

TEST_F(AttentionTest, DecodesOverManySplits) {
  for (const float factor : {0.0F, 1.0F, 10.0F}) {
    for (const DType dtype : {DType::kBF16, DType::kF16}) {
      check_everywhere({.num_kv_heads = 2,
                        .group = 3,
                        .head_dim = 64,
                        .page_size = 64,
                        .dtype = dtype,
                        .skip_factor = factor,
                        .spread = 2,
                        .tile_spread = 3,
                        .seqs = {{16, 1040}, {16, 512}}},
                       seed++, stream);
    }
  }
}

}  // namespace
}  // namespace foveal::kernels

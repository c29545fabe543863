#include <gtest/gtest.h>

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

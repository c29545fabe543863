// What a row's result must not depend on: bit for bit.

#include <gtest/gtest.h>

#include <cstring>
#include <random>

#include "kernels/attention_testing.h"

namespace foveal::kernels {
namespace {

using testing::AttentionCase;
using testing::CaseShape;

struct AttentionInvariance : ::testing::Test {
  void TearDown() override { cpu::set_active_isa(cpu::machine_isa()); }

  uint64_t seed = std::random_device{}();
  ThreadPool pool{2};
  Stream stream{Device{}, pool};
};

void expect_same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  ASSERT_EQ(a.size(), b.size());
  for (size_t at = 0; at < a.size(); ++at) {
    ASSERT_EQ(std::memcmp(&a[at], &b[at], sizeof(float)), 0)
        << "element " << at << ": " << a[at] << " and " << b[at];
  }
}

/// Cases that between them take every path.
std::vector<CaseShape> paths() {
  const CaseShape dense{.num_kv_heads = 2,
                        .group = 3,
                        .head_dim = 32,
                        .page_size = 16,
                        .spread = 1,
                        .tile_spread = 8,
                        .seqs = {{75, 203}, {17, 17}, {48, 144}}};
  CaseShape windowed = dense;
  windowed.window = 50;
  windowed.head_dim = 22;
  CaseShape exact = dense;
  exact.exact = true;
  exact.group = 1;
  CaseShape f16 = dense;
  f16.dtype = DType::kF16;
  f16.group = 9;
  CaseShape f32 = windowed;
  f32.dtype = DType::kF32;
  return {dense, windowed, exact, f16, f32};
}

template <class Body>
void for_each_path(const std::vector<CaseShape>& shapes, uint64_t seed, Body body) {
  for (const cpu::Isa isa : testing::isa_levels()) {
    cpu::set_active_isa(isa);
    for (size_t idx = 0; idx < shapes.size(); ++idx) {
      SCOPED_TRACE(::testing::Message()
                   << cpu::isa_name(isa) << " path " << idx << " seed " << seed);
      body(shapes[idx]);
      if (::testing::Test::HasFatalFailure()) return;
    }
  }
}

CaseShape one_row(CaseShape shape) {
  for (auto& [q_len, kv_len] : shape.seqs) q_len = 1;
  return shape;
}

/// Rows [begin, end) of sequence `idx` in a call of their own.
void run_rows(AttentionCase& data, AttentionPhase phase, size_t idx, int32_t begin, int32_t end,
              Stream& stream) {
  PagedAttentionParams params = data.params();
  params.counters = nullptr;
  AttentionSeq seq = data.seqs[idx];
  const int32_t first = seq.kv_len - seq.q_len;
  seq.q_begin += begin;
  seq.q_len = end - begin;
  seq.kv_len = first + end;  // later keys are in the pages, as garbage would be
  params.seqs = {&seq, 1};
  if (phase == AttentionPhase::kPrefill) {
    paged_prefill(params, stream);
  } else {
    paged_decode(params, stream);
  }
}

TEST_F(AttentionInvariance, ThreadsAndBatch) {
  for (const float factor : {0.0F, 10.0F}) {
    for_each_path(paths(), seed, [&](CaseShape shape) {
      shape.skip_factor = factor;
      if (factor > 0) shape.seqs = {{75, 203}, {17, 17}, {48, 144}};
      for (const AttentionPhase phase : {AttentionPhase::kPrefill, AttentionPhase::kDecode}) {
        const bool decode = phase == AttentionPhase::kDecode;
        AttentionCase data(decode ? one_row(shape) : shape, seed, stream);
        const std::vector<float> want = testing::run(data, phase, stream);
        for (const int threads : {1, 3}) {
          ThreadPool other(threads);
          Stream other_stream(Device{}, other);
          ASSERT_NO_FATAL_FAILURE(expect_same_bits(testing::run(data, phase, other_stream), want));
        }
        std::fill(data.out.begin(), data.out.end(), 0.0F);
        for (size_t idx = 0; idx < data.seqs.size(); ++idx) {
          run_rows(data, phase, idx, 0, data.seqs[idx].q_len, stream);
        }
        ASSERT_NO_FATAL_FAILURE(expect_same_bits(data.out, want));
      }
    });
  }
}

TEST_F(AttentionInvariance, DenseChunksOfAnyLength) {
  for_each_path(paths(), seed, [&](const CaseShape& shape) {
    AttentionCase data(shape, seed, stream);
    const std::vector<float> want = testing::run(data, AttentionPhase::kPrefill, stream);
    for (int32_t cut = 1; cut < 75; cut += 1) {
      std::fill(data.out.begin(), data.out.end(), 0.0F);
      run_rows(data, AttentionPhase::kPrefill, 0, 0, cut, stream);
      run_rows(data, AttentionPhase::kPrefill, 0, cut, 75, stream);
      for (const size_t idx : {1, 2}) {
        run_rows(data, AttentionPhase::kPrefill, idx, 0, data.seqs[idx].q_len, stream);
      }
      SCOPED_TRACE(::testing::Message() << "cut " << cut);
      ASSERT_NO_FATAL_FAILURE(expect_same_bits(data.out, want));
    }
  });
}

TEST_F(AttentionInvariance, SkippingChunksOfWholeTiles) {
  for_each_path(paths(), seed, [&](CaseShape shape) {
    shape.skip_factor = 10;
    AttentionCase data(shape, seed, stream);
    const std::vector<float> want = testing::run(data, AttentionPhase::kPrefill, stream);
    AttentionCounters all;
    for (const AttentionCounters& counters : data.counters) all.add(counters);
    if (shape.window == 0) {  // a window of two tiles leaves little to skip
      EXPECT_GT(all.tiles_skipped, all.tiles / 50) << "the case does not test skipping";
    }
    for (int32_t cut = kQueryTile; cut < 75; cut += kQueryTile) {
      std::fill(data.out.begin(), data.out.end(), 0.0F);
      run_rows(data, AttentionPhase::kPrefill, 0, 0, cut, stream);
      run_rows(data, AttentionPhase::kPrefill, 0, cut, 75, stream);
      for (const size_t idx : {1, 2}) {
        run_rows(data, AttentionPhase::kPrefill, idx, 0, data.seqs[idx].q_len, stream);
      }
      ASSERT_NO_FATAL_FAILURE(expect_same_bits(data.out, want));
    }
  });
}

TEST_F(AttentionInvariance, StaleSlots) {
  for_each_path(paths(), seed, [&](CaseShape shape) {
    for (const AttentionPhase phase : {AttentionPhase::kPrefill, AttentionPhase::kDecode}) {
      CaseShape used = phase == AttentionPhase::kDecode ? one_row(shape) : shape;
      AttentionCase dirty(used, seed, stream);
      used.garbage = false;
      AttentionCase clean(used, seed, stream);
      ASSERT_NO_FATAL_FAILURE(
          expect_same_bits(testing::run(dirty, phase, stream), testing::run(clean, phase, stream)));
    }
  });
}

TEST_F(AttentionInvariance, NothingSkippedIsDense) {
  for_each_path(paths(), seed, [&](CaseShape shape) {
    for (const AttentionPhase phase : {AttentionPhase::kPrefill, AttentionPhase::kDecode}) {
      CaseShape used = phase == AttentionPhase::kDecode ? one_row(shape) : shape;
      AttentionCase data(used, seed, stream);
      const std::vector<float> want = testing::run(data, phase, stream);
      for (const float factor : {1e-30F, 203.0F, 1e9F}) {  // no tile; off for 203 keys; off for all
        data.shape.skip_factor = factor;
        ASSERT_NO_FATAL_FAILURE(expect_same_bits(testing::run(data, phase, stream), want));
        EXPECT_EQ(data.counters[0].tiles_skipped, 0U);
        EXPECT_EQ(data.counters[0].pairs_used, data.counters[0].pairs);
      }
    }
  });
}

// A dropped tile lies below every row's maximum, so the maxima and with them the order of the
// shares do not depend on the factor.
TEST_F(AttentionInvariance, SkippedShareGrowsWithTheFactor) {
  for_each_path(paths(), seed, [&](CaseShape shape) {
    shape.seqs = {{48, 992}};  // many tiles, levels apart: some fall below the last factor
    for (const AttentionPhase phase : {AttentionPhase::kPrefill, AttentionPhase::kDecode}) {
      AttentionCase data(phase == AttentionPhase::kDecode ? one_row(shape) : shape, seed, stream);
      AttentionCounters before;
      for (const float factor : {1e-30F, 0.1F, 1.0F, 10.0F, 100.0F}) {
        data.shape.skip_factor = factor;
        testing::run(data, phase, stream);
        EXPECT_GE(data.counters[0].tiles_skipped, before.tiles_skipped);
        EXPECT_LE(data.counters[0].pairs_used, data.counters[0].pairs);
        before = data.counters[0];
      }
      // A window sees three tiles, of which the first is exempt: too few to be sure of one.
      if (shape.window == 0) {
        EXPECT_GT(before.tiles_skipped, 0U);
      }
    }
  });
}

}  // namespace
}  // namespace foveal::kernels

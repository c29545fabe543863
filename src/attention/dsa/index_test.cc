#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>

#include "attention/dsa/dsa_testing.h"
#include "base/half.h"
#include "kernels/cpu/isa.h"

namespace foveal::attention::dsa {
namespace {

namespace cpu = kernels::cpu;
using kernels::reference::IndexerSteps;
using testing::IndexCase;
using testing::IndexShape;

struct Indexer : ::testing::Test {
  void TearDown() override { cpu::set_active_isa(cpu::machine_isa()); }

  uint64_t seed = std::random_device{}();
  ThreadPool pool{2};
  Stream stream{Device{}, pool};
};

std::vector<IndexShape> shapes() {
  const std::vector<std::pair<int32_t, int32_t>> ragged = {
      {3, 300}, {1, 64}, {1, 65}, {5, 5}, {40, 200}};
  std::vector<IndexShape> out;
  for (const bool reference : {false, true}) {
    out.push_back({.reference = reference, .seqs = ragged});
    out.push_back({.num_heads = 17,
                   .dim = 64,
                   .topk = 7,
                   .page_size = 16,
                   .reference = reference,
                   .seqs = {{1, 500}, {1, 1}}});
    out.push_back({.num_heads = 1,
                   .dim = 16,
                   .topk = 33,
                   .max_chunk = 3,
                   .reference = reference,
                   .skip_short = false,
                   .seqs = {{70, 140}}});
  }
  out.push_back({.num_heads = 64, .topk = 50, .page_size = 64, .seqs = {{2, 300}}});
  // So few of many that blocks of scores are chosen first; their rows end in one block.
  out.push_back({.topk = 3, .seqs = {{15, 207}, {1, 2000}}});
  return out;
}

template <class Body>
void for_each_path(uint64_t seed, Body body) {
  for (int level = 0; level <= static_cast<int>(cpu::machine_isa()); ++level) {
    cpu::set_active_isa(static_cast<cpu::Isa>(level));
    for (const IndexShape& shape : shapes()) {
      SCOPED_TRACE(::testing::Message()
                   << cpu::isa_name(cpu::active_isa()) << " heads " << shape.num_heads << " dim "
                   << shape.dim << " reference " << shape.reference << " seed " << seed);
      body(shape);
      if (::testing::Test::HasFatalFailure()) return;
    }
  }
}

/// A set is right when what it has and the reference's has not, or the other way round, lies within
/// rounding of the last score that is chosen. Answers how many such keys there are.
int expect_set(std::span<const int32_t> got, std::span<const double> scores, int32_t topk) {
  const std::vector<int32_t> want = kernels::reference::index_set(scores, topk);
  EXPECT_EQ(got.size(), want.size());
  double cut = std::numeric_limits<double>::infinity();
  double largest = 0;
  for (const int32_t key : want) cut = std::min(cut, scores[static_cast<size_t>(key)]);
  for (const double score : scores) largest = std::max(largest, std::abs(score));
  std::vector<int32_t> odd;
  std::set_symmetric_difference(got.begin(), got.end(), want.begin(), want.end(),
                                std::back_inserter(odd));
  for (const int32_t key : odd) {
    // A float32 sum of dim products; one value in 10^5 may fall on the other side of a rounding to
    // e4m3 than in double, 2^-4 of itself.
    EXPECT_NEAR(scores[static_cast<size_t>(key)], cut, 2e-3 * largest) << "key " << key;
  }
  return static_cast<int>(odd.size());
}

TEST_F(Indexer, ChoosesWhatTheReferenceChooses) {
  int odd = 0;
  int chosen = 0;
  for_each_path(seed, [&](const IndexShape& shape) {
    const IndexCase data(shape, seed, stream);
    const OwnedSets sets = data.select(stream);
    size_t row = 0;
    for (size_t idx = 0; idx < data.seqs.size(); ++idx) {
      const kernels::AttentionSeq& seq = data.seqs[idx];
      const std::vector<double> scores = data.scores(idx, data.steps());
      for (int32_t at = 0; at < seq.q_len; ++at, ++row) {
        const int32_t seen = seq.kv_len - seq.q_len + at + 1;
        const std::span<const int32_t> got(sets.tokens.data() + sets.offsets[row],
                                           sets.tokens.data() + sets.offsets[row + 1]);
        odd +=
            expect_set(got, {scores.data() + int64_t{at} * seq.kv_len, size_t(seen)}, shape.topk);
        chosen += static_cast<int>(got.size());
      }
    }
  });
  EXPECT_LE(odd, chosen / 1000) << "sets agree but for rounding at their edge";
}

TEST_F(Indexer, SetsOfShortRowsAreEverything) {
  const IndexCase data({.topk = 64, .seqs = {{64, 64}}}, seed, stream);
  const OwnedSets sets = data.select(stream);
  for (int32_t row = 0; row < 64; ++row) {
    ASSERT_EQ(sets.offsets[static_cast<size_t>(row) + 1] - sets.offsets[static_cast<size_t>(row)],
              row + 1);
    for (int32_t key = 0; key <= row; ++key) {
      ASSERT_EQ(sets.tokens[static_cast<size_t>(sets.offsets[static_cast<size_t>(row)] + key)],
                key);
    }
  }
}

TEST_F(Indexer, NeitherThreadsNorChunksChangeSets) {
  IndexShape shape{.seqs = {{40, 400}, {1, 5000}}};
  const OwnedSets want = IndexCase(shape, seed, stream).select(stream);
  for (const int threads : {1, 3}) {
    ThreadPool other(threads);
    Stream other_stream(Device{}, other);
    EXPECT_EQ(IndexCase(shape, seed, stream).select(other_stream).tokens, want.tokens);
  }
  for (const int32_t chunk : {1, 7, 20}) {
    shape.max_chunk = chunk;
    EXPECT_EQ(IndexCase(shape, seed, stream).select(stream).tokens, want.tokens);
  }
}

/// Mean overlap of the sets that the room chooses with those of the reference under `steps`.
double mean_overlap(const IndexCase& data, const IndexerSteps& steps, Stream& stream) {
  const OwnedSets sets = data.select(stream);
  double sum = 0;
  const kernels::AttentionSeq& seq = data.seqs.front();
  const std::vector<double> scores = data.scores(0, steps);
  for (int32_t row = 0; row < seq.q_len; ++row) {
    const std::span<const double> own(scores.data() + int64_t{row} * seq.kv_len,
                                      static_cast<size_t>(seq.kv_len - seq.q_len + row + 1));
    const std::vector<int32_t> want = kernels::reference::index_set(own, data.shape.topk);
    sum += testing::overlap(
        {sets.tokens.data() + sets.offsets[static_cast<size_t>(row)], want.size()}, want);
  }
  return sum / seq.q_len;
}

const IndexShape kLong{.num_heads = 16, .topk = 256, .seqs = {{8, 2048}}};

TEST_F(Indexer, Fp8ChoosesAlmostWhatFloat32Chooses) {
  const IndexCase data(kLong, seed, stream);
  const double share = mean_overlap(data, kernels::reference::kReferenceMode, stream);
  RecordProperty("overlap", std::to_string(share));
  EXPECT_GE(share, 0.97);
  EXPECT_LT(share, 1.0) << "the case does not round";
}

TEST_F(Indexer, AHadamardTransformOfOneSideWouldShow) {
  const IndexCase data(kLong, seed, stream);
  EXPECT_GE(mean_overlap(data, {}, stream), 0.999);
  EXPECT_LT(mean_overlap(data, {.hadamard_q = false}, stream), 0.9);
  EXPECT_LT(mean_overlap(data, {.hadamard_k = false}, stream), 0.9);
}

TEST_F(Indexer, APositivePartOfTheSumWouldShow) {
  const IndexCase data(kLong, seed, stream);
  EXPECT_LT(mean_overlap(data, {.relu_inside = false}, stream), 0.9);
}

TEST_F(Indexer, ReferenceModeNeitherRotatesNorRounds) {
  IndexShape shape = kLong;
  shape.reference = true;
  const IndexCase data(shape, seed, stream);
  EXPECT_GE(mean_overlap(data, kernels::reference::kReferenceMode, stream), 0.9999);
  EXPECT_LT(mean_overlap(data, {}, stream), 1.0);
}

TEST_F(Indexer, KeysLieInTheirPagesAsTheLayoutSays) {
  const IndexCase data({.page_size = 16, .seqs = {{1, 40}}}, seed, stream);
  for (int32_t key = 0; key < 40; ++key) {
    const std::byte* page = data.lane.data + data.seqs[0].pages[key / 16] * int64_t{16} * (128 + 4);
    float scale = 0;
    std::memcpy(&scale, page + 16 * 128 + key % 16 * 4, sizeof(scale));
    int exponent = 0;
    EXPECT_EQ(std::frexp(scale, &exponent), 0.5F) << "a power of two";
    double before = 0;
    double after = 0;
    float largest = 0;
    for (int32_t ch = 0; ch < 128; ++ch) {
      const float value = e4m3_to_float(static_cast<uint8_t>(page[key % 16 * 128 + ch])) * scale;
      largest = std::max(largest, std::abs(value) / scale);
      before += std::pow(data.k[static_cast<size_t>(key) * 128 + static_cast<size_t>(ch)], 2);
      after += std::pow(value, 2);
    }
    EXPECT_NEAR(after / before, 1, 0.03) << "the transform keeps the norm";
    EXPECT_GT(largest, 223) << "the scale is the smallest that holds all";
  }
}

TEST_F(Indexer, WhatIsNotFiniteComesLast) {
  const float inf = std::numeric_limits<float>::infinity();
  for (const bool reference : {false, true}) {
    IndexCase data({.topk = 8, .reference = reference, .seqs = {{2, 40}}}, seed, stream);
    data.k[5 * 128 + 3] = std::nanf("");
    data.k[6 * 128] = inf;
    data.store(stream);
    for (float& weight : data.weights) weight = std::abs(weight);
    const OwnedSets sets = data.select(stream);
    ASSERT_EQ(sets.tokens.size(), 16U);
    for (const int32_t key : sets.tokens) EXPECT_TRUE(key != 5 && key != 6) << key;
    // Of a query that is not finite all scores are equal: the lowest positions.
    data.q[9] = -inf;
    const OwnedSets first = data.select(stream);
    for (int32_t key = 0; key < 8; ++key) EXPECT_EQ(first.tokens[static_cast<size_t>(key)], key);
  }
}

}  // namespace
}  // namespace foveal::attention::dsa

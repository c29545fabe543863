#include "attention/dsa/dsa.h"

#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <numeric>
#include <random>

#include "attention/dsa/device_places.h"
#include "attention/dsa/dsa_testing.h"
#include "attention/latent.h"
#include "kernels/reference/indexer.h"

namespace foveal::attention {
namespace {

constexpr int32_t kHeads = 2;
constexpr int32_t kDim = 48;
constexpr int32_t kValueDim = 32;
constexpr int32_t kIndexHeads = 4;
constexpr int32_t kIndexDim = 32;
constexpr int32_t kTopk = 10;
constexpr int32_t kLength = 40;
constexpr int32_t kPage = 16;

/// Layer 1 uses what layer 0 chose, layer 2 has an indexer of its own.
MethodContext context() {
  return {.shape = {.num_layers = 3,
                    .num_heads = kHeads,
                    .num_kv_heads = 1,
                    .head_dim = kDim,
                    .value_dim = kValueDim,
                    .windows = {0, 0, 0},
                    .indexer = IndexerShape{.num_heads = kIndexHeads,
                                            .head_dim = kIndexDim,
                                            .topk = kTopk,
                                            .full = {1, 0, 1}}},
          .checkpoint_sparse_json = {},
          .device = {}};
}

struct Sink final : TraceSink {
  bool wants(std::string_view name) const override { return name != "dsa.topk.2"; }
  void add(std::string_view name, const float* data, int64_t rows, int64_t cols,
           int64_t stride) override {
    EXPECT_EQ(cols, kTopk);
    for (int64_t row = 0; row < rows; ++row) {
      std::vector<int32_t> set;
      for (int64_t col = 0; col < cols; ++col) {
        const float value = data[row * stride + col];
        if (value >= 0) set.push_back(static_cast<int32_t>(value));
      }
      sets[std::string(name)].push_back(set);
    }
  }
  std::map<std::string, std::vector<std::vector<int32_t>>> sets;
};

/// One sequence of kLength tokens in a model of three layers.
struct Dsa : ::testing::Test {
  Dsa() {
    std::mt19937 rng(seed);
    std::normal_distribution<float> normal;
    const auto fill = [&](std::vector<float>& values, int64_t count) {
      values.resize(static_cast<size_t>(count));
      for (float& value : values) value = normal(rng);
    };
    fill(q, kLength * kHeads * kDim);
    fill(rows, kLength * kDim);
    for (int32_t layer = 0; layer < 3; ++layer) {
      fill(index_q[layer], kLength * kIndexHeads * kIndexDim);
      fill(index_k[layer], kLength * kIndexDim);
    }
    fill(index_w, kLength * kIndexHeads);
    cache.resize(4 * kPage * kDim * 2);
    for (std::vector<std::byte>& bytes : lanes) {
      bytes.resize(
          static_cast<size_t>(4 * dsa::index_page_bytes(kPage, kIndexDim, dsa::IndexFormat::kFp8)));
    }
    out.resize(kLength * kHeads * kValueDim);
    kernels::latent_store({.rows = rows.data(), .stride = kDim, .kv = view(0), .seqs = {&all, 1}},
                          stream);
  }

  KvLayerView view(int32_t layer) {
    lane = lanes[layer].data();
    return {.k = cache.data(),
            .page_bytes = kPage * kDim * 2,
            .dtype = DType::kBF16,
            .page_size = kPage,
            .num_kv_heads = 1,
            .head_dim = kDim,
            .value_dim = kValueDim,
            .lanes = &lane};
  }

  /// Tokens [begin, end) through every layer; answers each layer's outputs of these rows.
  std::vector<std::vector<float>> step(AttentionMethod& method, int32_t begin, int32_t end,
                                       TraceSink* trace = nullptr) {
    const Phase phase = end - begin == 1 ? Phase::kDecode : Phase::kPrefill;
    const kernels::AttentionSeq seq{
        .q_begin = begin, .q_len = end - begin, .kv_len = end, .pages = pages.data()};
    method.plan(phase, {&seq, 1});
    std::vector<std::vector<float>> outs;
    for (int32_t layer = 0; layer < 3; ++layer) {
      const IndexInputs index{.q = index_q[layer].data(),
                              .k = index_k[layer].data(),
                              .weights = index_w.data(),
                              .q_stride = kIndexHeads * kIndexDim,
                              .k_stride = kIndexDim,
                              .weights_stride = kIndexHeads};
      AttendArgs args = args_of(layer, seq);
      if (layer != 1) args.index = &index;
      args.counters = &counters;
      args.trace = trace;
      counters = {};
      method.append(layer, phase, args, stream);
      method.attend(layer, phase, args, stream);
      const auto first = out.begin() + begin * kHeads * kValueDim;
      outs.emplace_back(first, first + (end - begin) * kHeads * kValueDim);
    }
    return outs;
  }

  AttendArgs args_of(int32_t layer, const kernels::AttentionSeq& seq) {
    return {.q = q.data(),
            .out = out.data(),
            .q_stride = kHeads * kDim,
            .out_stride = kHeads * kValueDim,
            .num_heads = kHeads,
            .kv = view(layer),
            .seqs = {&seq, 1},
            .softmax_scale = 0.2F};
  }

  /// What the double reference chooses for a row of a layer with an indexer.
  std::vector<int32_t> chosen(int32_t layer, int32_t row) const {
    const std::vector<double> scores = kernels::reference::index_scores(
        {.q = index_q[layer].data() + row * kIndexHeads * kIndexDim,
         .k = index_k[layer].data(),
         .weights = index_w.data() + row * kIndexHeads,
         .rows = 1,
         .keys = row + 1,
         .num_heads = kIndexHeads,
         .dim = kIndexDim},
        {});
    return kernels::reference::index_set(scores, kTopk);
  }

  uint32_t seed = 11;  // its sets are not within rounding of others
  ThreadPool pool{2};
  Stream stream{Device{}, pool};
  std::vector<int32_t> pages{2, 0, 3};
  kernels::AttentionSeq all{.q_len = kLength, .kv_len = kLength, .pages = pages.data()};
  std::vector<float> q, rows, out, index_w;
  std::vector<float> index_q[3], index_k[3];
  std::vector<std::byte> cache;
  std::vector<std::byte> lanes[3];
  std::byte* lane = nullptr;
  kernels::AttentionCounters counters;
};

TEST_F(Dsa, LayersWithoutAnIndexerUseTheLastSet) {
  const auto method = make_dsa(nullptr, context());
  Sink trace;
  const auto outs = step(*method, 0, kLength, &trace);
  ASSERT_EQ(trace.sets["dsa.topk.0"].size(), size_t{kLength});
  EXPECT_EQ(trace.sets.count("dsa.topk.2"), 0U) << "nobody asked for it";
  EXPECT_EQ(trace.sets["dsa.topk.1"], trace.sets["dsa.topk.0"]);
  for (int32_t row = 0; row < kLength; ++row) {
    EXPECT_EQ(trace.sets["dsa.topk.0"][static_cast<size_t>(row)], chosen(0, row)) << row;
  }
  EXPECT_EQ(outs[1], outs[0]) << "the same cache and queries, so the same result";
  EXPECT_NE(outs[2], outs[0]);
}

TEST_F(Dsa, DecodeChoosesWhatPrefillDid) {
  const auto whole = make_dsa(nullptr, context());
  const auto want = step(*whole, 0, kLength);
  for (std::vector<std::byte>& bytes : lanes) std::fill(bytes.begin(), bytes.end(), std::byte{0});
  // The first rows see no more than topk keys: their index keys must be there all the same.
  const auto method = make_dsa(nullptr, context());
  step(*method, 0, kTopk - 3);
  for (int32_t row = kTopk - 3; row < kLength; ++row) {
    const auto got = step(*method, row, row + 1);
    for (size_t layer = 0; layer < 3; ++layer) {
      const auto first = want[layer].begin() + row * kHeads * kValueDim;
      EXPECT_EQ(got[layer], std::vector<float>(first, first + kHeads * kValueDim)) << row;
    }
  }
}

TEST_F(Dsa, ShortTextsAreDense) {
  DeepSeekSparseAttentionConfig config{.index_topk = kLength};
  for (const bool skip : {true, false}) {
    config.skip_indexer_for_short_seqs = skip;
    const SparseAttentionConfig given = config;
    const auto method = make_dsa(&given, context());
    const auto outs = step(*method, 0, kLength);
    EXPECT_EQ(counters.pairs_used, counters.pairs);
    const AttendArgs args = args_of(0, all);
    attend_latent(args, nullptr, stream);
    for (const auto& got : outs) EXPECT_EQ(got, out);
  }
}

TEST_F(Dsa, CountsWhatItLeavesOut) {
  const auto method = make_dsa(nullptr, context());
  step(*method, 0, kLength);
  EXPECT_EQ(counters.pairs, uint64_t{kHeads} * kLength * (kLength + 1) / 2);
  EXPECT_EQ(counters.pairs_used,
            uint64_t{kHeads} * (kTopk * (kTopk + 1) / 2 + (kLength - kTopk) * kTopk));
}

TEST_F(Dsa, WhatScoresTakeIsPlannedAndBounded) {
  const auto method = make_dsa(nullptr, context());
  const int64_t once = method->workspace_bytes({.max_kv_len = 1 << 17, .max_rows = 8192});
  EXPECT_GT(once, int64_t{8} * 4 << 17) << "eight rows of scores";
  EXPECT_LT(once, int64_t{16} << 20);
  const int64_t many =
      method->workspace_bytes({.max_kv_len = 1 << 17, .max_rows = 8192, .threads = 192});
  EXPECT_LT(many, int64_t{1} << 30) << "at 128k on a large machine";
}

// DeepSeek-V3.2's shape and a GPU's steps: queries and weights of the indexer 66 MiB, 512 rows of
// scores 256 MiB, the rows' sets 64 MiB; decode a row a sequence; a quarter more, which the
// workspace adds.
TEST(DsaOnCuda, WhatScoresTakeIsPlannedAndBoundedToo) {
  const dsa::Settings settings{.num_heads = 64,
                               .head_dim = 128,
                               .topk = 2048,
                               .max_chunk = 32768,
                               .full = {1},
                               .owner = {0}};
  EXPECT_EQ(dsa::device_places(settings, 8192, 131072).chunk, 512);
  const auto bytes = [&](int64_t length) {
    return dsa::device_workspace_bytes(settings,
                                       {.max_kv_len = length, .max_rows = 8192, .max_seqs = 64});
  };
  EXPECT_GT(bytes(131072), int64_t{(66 + 256 + 64) * 5 / 4} << 20);
  EXPECT_LT(bytes(131072), int64_t{530} << 20);
  EXPECT_LT(bytes(163840), int64_t{1} << 30) << "the longest context it has";
  EXPECT_EQ(bytes(2048), 0) << "nothing is scored";
}

TEST_F(Dsa, KeepsIndexKeysWhereThereIsAnIndexer) {
  const auto lanes_of = [](const DeepSeekSparseAttentionConfig& config) {
    const SparseAttentionConfig given = config;
    return make_dsa(&given, context())
        ->lanes({.num_layers = 3,
                 .num_kv_heads = 1,
                 .head_dim = kDim,
                 .value_dim = kValueDim,
                 .page_size = kPage});
  };
  const auto fp8 = lanes_of({});
  ASSERT_EQ(fp8.size(), 1U);
  EXPECT_EQ(fp8[0].bytes_per_page, kPage * (kIndexDim + 4));
  EXPECT_EQ(fp8[0].layers, (std::vector<uint8_t>{1, 0, 1}));
  DeepSeekSparseAttentionConfig exact;
  exact.indexer_reference = true;
  EXPECT_EQ(lanes_of(exact)[0].bytes_per_page, kPage * kIndexDim * 4);
}

}  // namespace
}  // namespace foveal::attention

// Latent attention in the form of heads: its three kernels against the definition.
#include "kernels/cuda/prefill_heads.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "kernels/cuda/dense_cuda_testing.h"
#include "kernels/cuda/latent_context.h"

namespace foveal::kernels::cuda::testing {
namespace {

constexpr HeadFormDims kDims;
constexpr int32_t kOwnWidth = kDims.own + kDims.values;
constexpr int32_t kShared = kDims.dim - kDims.own;
constexpr int32_t kWidth = FOVEAL_MLA_HEAD_DIM;

struct HeadsCase {
  std::vector<std::pair<int32_t, int32_t>> seqs;  ///< queries, keys
  int32_t heads = 3;
  float q_spread = 1;
};

class PrefillHeadsTest : public CudaTest {
 protected:
  /// What is wanted of a cached row, whose scales it makes powers of two.
  static void append_row(uint8_t* row, bool e4m3, std::vector<uint16_t>& want) {
    const auto* bits = reinterpret_cast<const uint16_t*>(row);
    if (!e4m3) {
      want.insert(want.end(), bits, bits + kWidth);
      return;
    }
    auto* scales = reinterpret_cast<float*>(row + FOVEAL_MLA_VALUE_DIM);
    for (int i = 0; i < 4; ++i) scales[i] = std::ldexp(1.0F, i - 3);
    for (int i = 0; i < FOVEAL_MLA_VALUE_DIM; ++i) {
      want.push_back(float_to_bf16(e4m3_to_float(row[i]) * scales[i / 128]));
    }
    const uint16_t* rotating = bits + (FOVEAL_MLA_VALUE_DIM + 16) / 2;
    want.insert(want.end(), rotating, rotating + kShared);
  }

  void make(const HeadsCase& given) {
    what = given;
    cu_q.assign(1, 0);
    cu_k.assign(1, 0);
    for (const auto& [queries, keys] : what.seqs) {
      cu_q.push_back(cu_q.back() + queries);
      cu_k.push_back(cu_k.back() + keys);
    }
    const auto keys = static_cast<size_t>(cu_k.back());
    q = to_bf16(normal(static_cast<size_t>(cu_q.back() * q_stride()), what.q_spread));
    own = to_bf16(normal(keys * static_cast<size_t>(what.heads * kOwnWidth)));
    context = to_bf16(normal(keys * kWidth));
  }

  /// Something lies between the rows of queries: an indexer's, in a model.
  int64_t q_stride() const { return int64_t{what.heads} * kDims.dim + 64; }
  int64_t out_stride() const { return int64_t{what.heads} * kDims.values; }

  std::vector<uint16_t> run() {
    std::vector<int32_t> lengths;
    for (const auto& seq : what.seqs) lengths.push_back(seq.second);
    const auto q_dev = upload(q);
    const auto own_dev = upload(own);
    const auto context_dev = upload(context);
    const auto lengths_dev = upload(lengths);
    const auto cu_q_dev = upload(cu_q);
    const auto cu_k_dev = upload(cu_k);
    const auto counter = upload(std::vector<uint32_t>(1));
    const DeviceArray<uint16_t> out(stream_, static_cast<size_t>(cu_q.back() * out_stride()));
    for (int turn = 0; turn < 2; ++turn) {  // the counter is left as it was
      prefill_heads({.q = q_dev.data(),
                     .q_row_stride = q_stride(),
                     .own = own_dev.data(),
                     .shared = context_dev.data() + FOVEAL_MLA_VALUE_DIM,
                     .shared_row_stride = kWidth,
                     .out = out.data(),
                     .out_row_stride = out_stride(),
                     .num_heads = what.heads,
                     .num_seqs = static_cast<int32_t>(what.seqs.size()),
                     .num_rows = cu_q.back(),
                     .num_keys = cu_k.back(),
                     .cu_q = cu_q_dev.data(),
                     .kv_len = lengths_dev.data(),
                     .cu_k = cu_k_dev.data(),
                     .softmax_scale = kScale,
                     .counter = counter.data()},
                    stream_.native());
    }
    return out.download();
  }

  /// Probabilities and outputs are rounded to bf16: 2^-9 of each term, and of their sum.
  void expect_right() {
    const std::vector<float> got = from_bf16(run());
    for (size_t seq = 0; seq < what.seqs.size(); ++seq) {
      for (int32_t row = 0; row < what.seqs[seq].first; ++row) {
        for (int32_t head = 0; head < what.heads; ++head) expect_row(seq, row, head, got);
      }
    }
  }

  void expect_row(size_t seq, int32_t row, int32_t head, const std::vector<float>& got) const {
    const auto [queries, keys] = what.seqs[seq];
    const int32_t seen = keys - queries + row + 1;
    const uint16_t* query =
        &q[static_cast<size_t>((cu_q[seq] + row) * q_stride() + int64_t{head} * kDims.dim)];
    std::vector<double> scores(static_cast<size_t>(seen));
    for (int32_t key = 0; key < seen; ++key) {
      const uint16_t* mine = own_row(cu_k[seq] + key, head);
      const uint16_t* all =
          &context[static_cast<size_t>(cu_k[seq] + key) * kWidth + FOVEAL_MLA_VALUE_DIM];
      double sum = 0;
      for (int32_t i = 0; i < kDims.dim; ++i) {
        const uint16_t other = i < kDims.own ? mine[i] : all[i - kDims.own];
        sum += double{bf16_to_float(query[i])} * double{bf16_to_float(other)};
      }
      scores[static_cast<size_t>(key)] = sum * double{kScale};
    }
    const double top = *std::max_element(scores.begin(), scores.end());
    double total = 0;
    for (double& score : scores) total += score = std::exp(score - top);
    for (int32_t i = 0; i < kDims.values; ++i) {
      double want = 0;
      double magnitude = 0;
      for (int32_t key = 0; key < seen; ++key) {
        const double term = scores[static_cast<size_t>(key)] / total *
                            double{bf16_to_float(own_row(cu_k[seq] + key, head)[kDims.own + i])};
        want += term;
        magnitude += std::abs(term);
      }
      const auto at =
          static_cast<size_t>((cu_q[seq] + row) * out_stride() + int64_t{head} * kDims.values + i);
      ASSERT_NEAR(got[at], want, 0x1p-8 * magnitude + 0x1p-8 * std::abs(want) + 1e-6)
          << seq << ' ' << row << ' ' << head << ' ' << i;
    }
  }

  const uint16_t* own_row(int32_t key, int32_t head) const {
    return &own[(static_cast<size_t>(key) * static_cast<size_t>(what.heads) +
                 static_cast<size_t>(head)) *
                kOwnWidth];
  }

  static constexpr float kScale = 0.0722F;  // of 192 channels
  HeadsCase what;
  std::vector<int32_t> cu_q, cu_k;
  std::vector<uint16_t> q, own, context;
};

TEST_F(PrefillHeadsTest, RaggedBatches) {
  make({.seqs = {{200, 777}, {40, 40}, {1, 1}, {129, 333}, {128, 256}}});
  expect_right();
  make({.seqs = {{5, 129}}, .heads = 1});
  expect_right();
  make({.seqs = {{500, 900}}, .heads = 2, .q_spread = 20});
  expect_right();
}

TEST_F(PrefillHeadsTest, ARowDoesNotDependOnItsBlock) {
  make({.seqs = {{700, 1300}}, .heads = 2});
  std::vector<uint16_t> want = run();
  for (const int32_t left_out : {16, 77, 300}) {
    q.erase(q.begin(), q.begin() + left_out * q_stride());
    want.erase(want.begin(), want.begin() + left_out * out_stride());
    what.seqs[0].first -= left_out;
    cu_q.back() -= left_out;
    EXPECT_EQ(run(), want) << left_out;
  }
}

TEST_F(PrefillHeadsTest, GathersCachedRows) {
  const std::vector<int32_t> lengths{70, 1, 0, 129};
  const std::vector<int32_t> starts{0, 70, 71, 71, 200};
  for (const bool e4m3 : {false, true}) {
    for (const int32_t page_size : {16, 64}) {
      const int32_t row_bytes = e4m3 ? FOVEAL_MLA_FP8_ROW : kWidth * 2;
      const int32_t pages_a_seq = (129 + page_size - 1) / page_size;
      const int64_t page_bytes = int64_t{page_size} * row_bytes;
      std::vector<int32_t> table(static_cast<size_t>(pages_a_seq) * 4);
      std::iota(table.begin(), table.end(), 0);
      std::shuffle(table.begin(), table.end(), rng_);
      std::vector<uint8_t> pool(static_cast<size_t>(page_bytes) * table.size());
      for (uint8_t& byte : pool) byte = static_cast<uint8_t>(rng_() % 0x7e);  // finite
      std::vector<uint16_t> want;
      for (size_t seq = 0; seq < lengths.size(); ++seq) {
        for (int32_t token = 0; token < lengths[seq]; ++token) {
          const int32_t page = table[seq * static_cast<size_t>(pages_a_seq) +
                                     static_cast<size_t>(token / page_size)];
          uint8_t* row = &pool[static_cast<size_t>(page * page_bytes +
                                                   int64_t{token % page_size} * row_bytes)];
          append_row(row, e4m3, want);
        }
      }
      const auto pool_dev = upload(pool);
      const auto table_dev = upload(table);
      const auto lengths_dev = upload(lengths);
      const DeviceArray<int32_t> starts_dev(stream_, lengths.size() + 1);
      const DeviceArray<uint16_t> rows(stream_, want.size());
      latent_context({.cache = {.data = pool_dev.data(),
                                .page_bytes = page_bytes,
                                .dtype = e4m3 ? FOVEAL_E4M3 : FOVEAL_BF16,
                                .page_size = page_size,
                                .num_pages = static_cast<int32_t>(table.size())},
                      .kv_len = lengths_dev.data(),
                      .page_table = table_dev.data(),
                      .page_table_stride = pages_a_seq,
                      .num_seqs = static_cast<int32_t>(lengths.size()),
                      .num_rows = starts.back(),
                      .starts = starts_dev.data(),
                      .rows = rows.data()},
                     stream_.native());
      EXPECT_EQ(starts_dev.download(), starts);
      EXPECT_EQ(rows.download(), want) << e4m3 << ' ' << page_size;
    }
  }
}

TEST_F(PrefillHeadsTest, TurnsWeightsBack) {
  for (const int32_t nope : {128, 40}) {
    constexpr int32_t kHeads = 3;
    constexpr int32_t kValues = 72;
    constexpr int32_t kRank = 88;
    const auto count = [](int32_t rows, int32_t cols) {
      return static_cast<size_t>(rows) * static_cast<size_t>(cols);
    };
    const std::vector<uint16_t> to_latent = to_bf16(normal(count(kHeads * kRank, nope)));
    const std::vector<uint16_t> to_values = to_bf16(normal(count(kHeads * kValues, kRank)));
    std::vector<uint16_t> want;
    for (int32_t head = 0; head < kHeads; ++head) {
      for (int32_t row = 0; row < nope + kValues; ++row) {
        for (int32_t k = 0; k < kRank; ++k) {
          want.push_back(
              row < nope
                  ? to_latent[count(head * kRank + k, nope) + static_cast<size_t>(row)]
                  : to_values[count(head * kValues + row - nope, kRank) + static_cast<size_t>(k)]);
        }
      }
    }
    const auto to_latent_dev = upload(to_latent);
    const auto to_values_dev = upload(to_values);
    const DeviceArray<uint16_t> out(stream_, want.size());
    head_weights({.to_latent = to_latent_dev.data(),
                  .to_values = to_values_dev.data(),
                  .out = out.data(),
                  .num_heads = kHeads,
                  .nope_dim = nope,
                  .value_dim = kValues,
                  .rank = kRank},
                 stream_.native());
    EXPECT_EQ(out.download(), want);
  }
}

}  // namespace
}  // namespace foveal::kernels::cuda::testing

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "kernels/cuda/dense_cuda_testing.h"
#include "kernels/cuda/indexer.h"
#include "kernels/reference/indexer.h"

namespace foveal::kernels::cuda::testing {
namespace {

constexpr float kUntouched = 12345;

struct Shape {
  std::vector<std::pair<int32_t, int32_t>> seqs;  ///< new rows, keys
  int32_t heads = 64;
  int32_t page_size = 64;
  int32_t dim = 128;
};

/// A vector's codes and scale, by the definition, in the order of additions that the header's
/// "same bits as on a CPU" rests on.
float quantise(const float* x, int n, uint8_t* codes) {
  std::vector<float> y(x, x + n);
  for (int half = 1; half < n; half *= 2) {
    for (int i = 0; i < n; ++i) {
      if ((i & half) != 0) continue;
      const float sum = y[i] + y[i + half];
      y[i + half] = y[i] - y[i + half];
      y[i] = sum;
    }
  }
  const float unit = 1.0F / std::sqrt(static_cast<float>(n));
  float largest = 1e-4F;
  for (float& value : y) {
    value *= unit;
    largest = std::max(largest, std::fabs(value));
  }
  const float scale = std::exp2(std::ceil(std::log2(largest / 448.0F)));
  for (int i = 0; i < n; ++i) codes[i] = float_to_e4m3(y[i] / scale);
  return scale;
}

/// One batch: keys stored by the kernel, page by page out of order, in a pool full of NaN.
class IndexerTest : public CudaTest {
 protected:
  void make(const Shape& given) {
    what = given;
    most = 0;
    cu_rows.assign(1, 0);
    cu_keys.assign(1, 0);
    for (const auto& [rows, keys] : what.seqs) {
      cu_rows.push_back(cu_rows.back() + rows);
      cu_keys.push_back(cu_keys.back() + keys);
      kv_len.push_back(keys);
      most = std::max(most, keys);
    }
    width = (most + what.page_size - 1) / what.page_size;
    const size_t pages = what.seqs.size() * static_cast<size_t>(width) + 3;
    table.resize(pages);
    std::iota(table.begin(), table.end(), 0);
    std::shuffle(table.begin(), table.end(), rng_);
    const auto dim = static_cast<size_t>(what.dim);
    k = rounded(normal(static_cast<size_t>(cu_keys.back()) * dim));
    const size_t vectors = static_cast<size_t>(cu_rows.back()) * static_cast<size_t>(what.heads);
    q = rounded(normal(vectors * dim, 3));
    weights = normal(vectors);
    page_bytes = what.page_size * (what.dim + 4) + 16;  // and a gap
    lane = std::make_unique<DeviceArray<uint8_t>>(stream_, pages * static_cast<size_t>(page_bytes));
  }

  template <class Params>
  Params common(const DeviceArray<int32_t>& cu, const DeviceArray<int32_t>& lengths,
                const DeviceArray<int32_t>& pages) const {
    Params p{};
    p.struct_size = sizeof(p);
    p.num_seqs = static_cast<int32_t>(what.seqs.size());
    p.num_heads = what.heads;
    p.head_dim = what.dim;
    p.cu_q = cu.data();
    p.kv_len = lengths.data();
    p.page_table = pages.data();
    p.page_table_stride = width;
    p.keys = {.data = lane->data(),
              .page_bytes = page_bytes,
              .page_size = what.page_size,
              .num_pages = static_cast<int32_t>(table.size())};
    return p;
  }

  /// All keys, and the batch's queries.
  void prepare() {
    const auto lengths = upload(kv_len);
    const auto pages = upload(table);
    const auto all = upload(cu_keys);
    const auto keys = upload(to_bf16(k));
    auto p = common<foveal_indexer_prepare_params>(all, lengths, pages);
    p.num_rows = cu_keys.back();
    p.k = keys.data();
    p.k_row_stride = what.dim;
    indexer_prepare(p, stream_.native());

    std::vector<float> newest;
    for (size_t s = 0; s < what.seqs.size(); ++s) {
      const auto* end = k.data() + int64_t{cu_keys[s + 1]} * what.dim;
      newest.insert(newest.end(), end - int64_t{what.seqs[s].first} * what.dim, end);
    }
    const auto rows = upload(cu_rows);
    const auto new_keys = upload(to_bf16(newest));
    const auto queries = upload(to_bf16(q));
    const auto given = upload(weights);
    DeviceArray<uint8_t> q_out(stream_, q.size());
    DeviceArray<float> w_out(stream_, weights.size());
    p.cu_q = rows.data();
    p.num_rows = cu_rows.back();
    p.k = new_keys.data();
    p.q = queries.data();
    p.q_row_stride = int64_t{what.heads} * what.dim;
    p.weights = given.data();
    p.weights_row_stride = what.heads;
    p.q_out = q_out.data();
    p.weights_out = w_out.data();
    indexer_prepare(p, stream_.native());
    q8 = q_out.download();
    folded = w_out.download();
  }

  std::vector<float> scores(bool decode) {
    const auto lengths = upload(kv_len);
    const auto pages = upload(table);
    const auto rows = upload(cu_rows);
    const auto queries = upload(q8);
    const auto given = upload(folded);
    const int64_t stride = most + 3;
    const auto out =
        upload(std::vector<float>(static_cast<size_t>(cu_rows.back() * stride), kUntouched));
    auto p = common<foveal_indexer_scores_params>(rows, lengths, pages);
    if (decode) p.cu_q = nullptr;
    p.num_rows = p.row_count = cu_rows.back();
    p.q = queries.data();
    p.weights = given.data();
    p.max_kv_len = most;
    p.scores = out.data();
    p.row_stride = stride;
    indexer_scores(p, stream_.native());
    return out.download();
  }

  const uint8_t* page_of(const std::vector<uint8_t>& bytes, size_t seq, int32_t token) const {
    const int32_t page =
        table[seq * static_cast<size_t>(width) + static_cast<size_t>(token / what.page_size)];
    return bytes.data() + int64_t{page} * page_bytes;
  }

  /// Each row against the definition, from the codes that the kernel made.
  void check(const std::vector<float>& found) {
    const auto bytes = lane->download();
    const int64_t stride = most + 3;
    for (size_t s = 0; s < what.seqs.size(); ++s) {
      const auto [rows, keys] = what.seqs[s];
      for (int32_t i = 0; i < rows; ++i) {
        const int64_t row = cu_rows[s] + i;
        const int32_t end = keys - rows + i + 1;
        for (int32_t t = 0; t < stride; ++t) {
          const float value = found[static_cast<size_t>(row * stride + t)];
          if (t >= end) {
            ASSERT_EQ(value, kUntouched) << "row " << row << " key " << t;
            continue;
          }
          const auto [sum, bound] = score(row, page_of(bytes, s, t), t % what.page_size);
          ASSERT_NEAR(value, sum, bound) << "row " << row << " key " << t;
        }
      }
    }
  }

  /// And how far the tensor cores may be off: they cut each product 13 bits below the largest.
  std::pair<double, double> score(int64_t row, const uint8_t* page, int32_t place) const {
    float scale = 0;
    std::memcpy(&scale, page + what.page_size * what.dim + place * 4, 4);
    double sum = 0;
    double off = 0;
    for (int32_t h = 0; h < what.heads; ++h) {
      const int64_t at = row * what.heads + h;
      double product = 0;
      double magnitude = 0;
      for (int32_t i = 0; i < what.dim; ++i) {
        const double term = double{e4m3_to_float(q8[static_cast<size_t>(at * what.dim + i)])} *
                            double{e4m3_to_float(page[place * what.dim + i])};
        product += term;
        magnitude += std::fabs(term);
      }
      const double weight = folded[static_cast<size_t>(at)];
      sum += weight * std::max(product, 0.0);
      off += std::fabs(weight) * magnitude * 0x1p-11;
    }
    return {sum * double{scale}, off * double{scale}};
  }

  Shape what;
  int32_t most = 0;
  int32_t width = 0;
  int64_t page_bytes = 0;
  std::vector<int32_t> cu_rows, cu_keys, kv_len, table;
  std::vector<float> k, q, weights, folded;
  std::vector<uint8_t> q8;
  std::unique_ptr<DeviceArray<uint8_t>> lane;
};

TEST_F(IndexerTest, CodesAndScalesAreTheDefinitionsToTheBit) {
  for (const int32_t dim : {32, 64, 128}) {
    make({.seqs = {{3, 70}, {1, 1}}, .heads = 8, .page_size = 16, .dim = dim});
    std::fill_n(k.begin(), dim, 0.0F);  // below the floor of scales
    prepare();
    const auto bytes = lane->download();
    std::vector<uint8_t> codes(static_cast<size_t>(dim));
    for (size_t s = 0; s < what.seqs.size(); ++s) {
      for (int32_t t = 0; t < what.seqs[s].second; ++t) {
        const float scale =
            quantise(&k[static_cast<size_t>((cu_keys[s] + t) * dim)], dim, codes.data());
        const uint8_t* page = page_of(bytes, s, t);
        const int32_t place = t % what.page_size;
        ASSERT_EQ(std::memcmp(page + place * dim, codes.data(), codes.size()), 0) << t;
        ASSERT_EQ(std::memcmp(page + what.page_size * dim + place * 4, &scale, 4), 0) << t;
      }
    }
    for (size_t v = 0; v < folded.size(); ++v) {
      const float scale = quantise(&q[v * static_cast<size_t>(dim)], dim, codes.data());
      ASSERT_EQ(std::memcmp(&q8[v * static_cast<size_t>(dim)], codes.data(), codes.size()), 0) << v;
      const double want = weights[v] * scale / std::sqrt(double{8} * dim);
      ASSERT_NEAR(folded[v], want, std::fabs(want) * 0x1p-22);
    }
    kv_len.clear();
  }
}

TEST_F(IndexerTest, RaggedBatches) {
  const std::vector<Shape> shapes{
      {.seqs = {{5, 5}, {1, 129}, {9, 300}}},
      {.seqs = {{33, 200}, {2, 64}, {64, 65}}, .heads = 32, .page_size = 16},
      {.seqs = {{40, 170}, {3, 47}}, .heads = 16, .page_size = 48},
      {.seqs = {{50, 257}, {17, 17}, {1, 1}}, .heads = 8, .page_size = 128},
      {.seqs = {{4, 700}}, .dim = 64},
      {.seqs = {{7, 90}}, .heads = 8, .page_size = 32, .dim = 32},
  };
  for (const Shape& shape : shapes) {
    kv_len.clear();
    make(shape);
    prepare();
    check(scores(false));
  }
}

TEST_F(IndexerTest, OneRowASequenceGivesTheBitsOfARaggedCall) {
  for (const int32_t heads : {8, 16, 32, 64}) {
    Shape shape{.heads = heads, .page_size = heads == 16 ? 16 : 64};
    for (const int32_t keys : {1, 63, 64, 65, 2050, 700}) shape.seqs.emplace_back(1, keys);
    kv_len.clear();
    make(shape);
    prepare();
    const auto found = scores(true);
    check(found);
    EXPECT_EQ(found, scores(false));
  }
}

// Against scores without a Hadamard transform and without e4m3, as the CPU's indexer is held: data
// of channels of unlike sizes, as projections give them, and a part that keys share with queries.
TEST_F(IndexerTest, ChoosesAlmostWhatFloat32Chooses) {
  constexpr int32_t kTopk = 256;
  make({.seqs = {{8, 2048}}, .heads = 16});
  std::vector<float> size = normal(128);
  for (float& channel : size) channel = std::exp(0.7F * channel);
  for (std::vector<float>* all : {&q, &k}) {
    *all = normal(all->size());
    for (size_t at = 0; at < all->size(); ++at) (*all)[at] = size[at % 128] * (*all)[at] + 0.3F;
    *all = rounded(*all);
  }
  prepare();
  const std::vector<float> found = scores(false);
  const std::vector<double> exact = reference::index_scores({.q = q.data(),
                                                             .k = k.data(),
                                                             .weights = weights.data(),
                                                             .rows = 8,
                                                             .keys = 2048,
                                                             .num_heads = 16,
                                                             .dim = 128},
                                                            reference::kReferenceMode);
  size_t same = 0;
  for (int64_t row = 0; row < 8; ++row) {
    const size_t seen = 2041 + static_cast<size_t>(row);
    const float* own = found.data() + row * (most + 3);
    const std::vector<double> ours(own, own + seen);
    const std::vector<int32_t> got = reference::index_set(ours, kTopk);
    const std::vector<int32_t> want = reference::index_set({&exact[row * 2048], seen}, kTopk);
    std::vector<int32_t> both;
    std::set_intersection(got.begin(), got.end(), want.begin(), want.end(),
                          std::back_inserter(both));
    same += both.size();
  }
  const double share = static_cast<double>(same) / (8.0 * kTopk);
  std::printf("%.2f %% of the keys that float32 chooses\n", 100 * share);
  EXPECT_GE(share, 0.97);
  EXPECT_LT(share, 1.0) << "the case does not round";
}

}  // namespace
}  // namespace foveal::kernels::cuda::testing

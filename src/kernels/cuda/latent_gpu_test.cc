#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "kernels/cuda/dense_cuda_testing.h"
#include "kernels/cuda/latent.h"
#include "kernels/cuda/latent_any.h"

namespace foveal::kernels::cuda::testing {
namespace {

constexpr int32_t kDim = FOVEAL_MLA_HEAD_DIM;
constexpr int32_t kValue = FOVEAL_MLA_VALUE_DIM;

struct MlaCase {
  std::vector<int32_t> counts;  ///< keys of each row
  int32_t heads = 64;
  bool e4m3 = false;
  int32_t page_size = 64;
  bool listed = true;
  bool local = false;    ///< lists of tokens, else of slots
  int32_t page_gap = 0;  ///< bytes between pages
  int32_t splits = 0;
  float key_growth = 0;    ///< later keys are larger: the running maximum moves on and on
  int32_t none_every = 0;  ///< each so-manieth entry of a list is none
  LatentDims dims = {};
};

/// A pool, the lists and the definition in double precision.
class MlaTest : public CudaTest {
 protected:
  void make(const MlaCase& given) {
    what = given;
    rows = static_cast<int32_t>(what.counts.size());
    max_keys = std::max(1, *std::max_element(what.counts.begin(), what.counts.end()));
    pages_a_row = (max_keys + what.page_size - 1) / what.page_size;
    num_pages = pages_a_row * rows + 3;
    q = rounded(normal(static_cast<size_t>(rows) * what.heads * dim()));
    fill_pool();
    std::vector<int32_t> order(static_cast<size_t>(num_pages));
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), rng_);
    table.assign(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(pages_a_row) * rows);
    name_keys();
  }

  int32_t dim() const { return what.dims.width(); }
  int32_t value() const { return what.dims.rank; }
  int32_t row_bytes() const { return what.e4m3 ? FOVEAL_MLA_FP8_ROW : dim() * 2; }
  int64_t page_bytes() const { return int64_t{what.page_size} * row_bytes() + what.page_gap; }
  uint8_t* stored(int64_t slot) {
    return &pool[static_cast<size_t>(slot / what.page_size * page_bytes() +
                                     slot % what.page_size * row_bytes())];
  }

  void fill_pool() {
    pool.assign(static_cast<size_t>(page_bytes() * num_pages), 0xff);  // NaN between the pages
    const int64_t count = int64_t{num_pages} * what.page_size;
    keys = normal(static_cast<size_t>(count * dim()));
    for (int64_t slot = 0; slot < count; ++slot) store(slot);
  }
  void store(int64_t slot) {
    float* key = &keys[static_cast<size_t>(slot * dim())];
    for (int32_t i = 0; i < dim(); ++i) key[i] *= 1 + what.key_growth * static_cast<float>(slot);
    uint8_t* to = stored(slot);
    for (int32_t i = 0; i < dim(); ++i) {
      if (what.e4m3 && i < value()) {
        const float factor = std::ldexp(1.0F, i / 128 - 8);
        const uint8_t bits = float_to_e4m3(key[i] / factor);
        to[i] = bits;
        std::memcpy(to + value() + i / 128 * 4, &factor, 4);
        key[i] = e4m3_to_float(bits) * factor;
      } else {
        const uint16_t bits = float_to_bf16(key[i]);
        std::memcpy(to + (what.e4m3 ? value() + 16 + (i - value()) * 2 : i * 2), &bits, 2);
        key[i] = bf16_to_float(bits);
      }
    }
  }

  /// Lists in random order, twice the same now and then, with garbage past their end.
  void name_keys() {
    slots.assign(static_cast<size_t>(rows), {});
    lists.assign(static_cast<size_t>(rows) * max_keys, INT32_MAX);
    for (int32_t row = 0; row < rows; ++row) {
      std::uniform_int_distribution<int32_t> any(0, pages_a_row * what.page_size - 1);
      for (int32_t i = 0; i < what.counts[static_cast<size_t>(row)]; ++i) {
        const bool none = what.listed && what.none_every > 0 && i % what.none_every == 0;
        const int32_t token = what.listed ? any(rng_) : i;
        const int32_t block = row * pages_a_row + token / what.page_size;
        const int32_t slot =
            table[static_cast<size_t>(block)] * what.page_size + token % what.page_size;
        lists[static_cast<size_t>(row) * max_keys + i] = none ? -1 : what.local ? token : slot;
        if (!none) slots[static_cast<size_t>(row)].push_back(slot);
      }
    }
  }

  struct Result {
    std::vector<uint16_t> out;
    std::vector<float> lse;
  };
  Result run() {
    const DeviceArray<uint16_t> queries = upload(to_bf16(q));
    const DeviceArray<uint8_t> cache = upload(pool);
    const DeviceArray<int32_t> indices = upload(lists);
    const DeviceArray<int32_t> counts = upload(what.counts);
    const DeviceArray<int32_t> pages = upload(table);
    const size_t lines = static_cast<size_t>(rows) * static_cast<size_t>(what.heads);
    const DeviceArray<uint16_t> out(stream_, lines * value());
    const DeviceArray<float> lse(stream_, lines);
    foveal_mla_params p{};
    p.struct_size = sizeof(p);
    p.num_rows = rows;
    p.num_heads = what.heads;
    p.max_keys = max_keys;
    p.q = queries.data();
    p.q_head_stride = dim();
    p.q_row_stride = int64_t{what.heads} * dim();
    p.out = out.data();
    p.out_head_stride = value();
    p.out_row_stride = int64_t{what.heads} * value();
    if (what.dims.common()) p.lse = lse.data();
    p.cache = {.data = cache.data(),
               .page_bytes = page_bytes(),
               .dtype = what.e4m3 ? FOVEAL_E4M3 : FOVEAL_BF16,
               .page_size = what.page_size,
               .num_pages = num_pages};
    p.counts = counts.data();
    if (what.listed) {
      p.indices = indices.data();
      p.indices_stride = max_keys;
      if (what.local) p.flags = FOVEAL_MLA_LOCAL;
    }
    if (!what.listed || what.local) {
      p.page_table = pages.data();
      p.page_table_stride = pages_a_row;
    }
    p.softmax_scale = scale;
    p.splits = what.splits;
    if (!what.dims.common()) {
      latent_any_attention(p, what.dims, stream_.native());
      return {out.download(), {}};
    }
    const DeviceArray<uint8_t> workspace(stream_, mla_workspace_bytes(p) + 1);
    p.workspace = workspace.data();
    p.workspace_bytes = mla_workspace_bytes(p);
    mla_attention(p, stream_.native());
    return {out.download(), lse.download()};
  }

  /// One head of one row by the definition, and how far rounding may move each channel.
  void expect_head(const Result& got, int32_t row, int32_t head) const {
    const auto& mine = slots[static_cast<size_t>(row)];
    std::vector<double> scores;
    double top = -std::numeric_limits<double>::infinity();
    const float* query = &q[(static_cast<size_t>(row) * what.heads + head) * dim()];
    for (const int32_t slot : mine) {
      const float* key = &keys[static_cast<size_t>(slot) * dim()];
      double sum = 0;
      for (int32_t i = 0; i < dim(); ++i) sum += double{query[i]} * double{key[i]};
      scores.push_back(sum * double{scale});
      top = std::max(top, scores.back());
    }
    double total = 0;
    std::vector<double> out(static_cast<size_t>(value())), size(out.size());
    for (size_t i = 0; i < mine.size(); ++i) {
      const double p = std::exp(scores[i] - top);
      total += p;
      for (int32_t c = 0; c < value(); ++c) {
        const double v = keys[static_cast<size_t>(mine[i]) * dim() + static_cast<size_t>(c)];
        out[static_cast<size_t>(c)] += p * v;
        size[static_cast<size_t>(c)] += p * std::fabs(v);
      }
    }
    const size_t line = static_cast<size_t>(row) * what.heads + head;
    if (got.lse.empty()) {
      // latent_any has none
    } else if (mine.empty()) {
      EXPECT_EQ(got.lse[line], -std::numeric_limits<float>::infinity());
    } else {
      EXPECT_NEAR(got.lse[line], top + std::log(total), 1e-4 * std::max(1.0, std::fabs(top)));
    }
    for (int32_t c = 0; c < value(); ++c) {
      const double want = mine.empty() ? 0 : out[static_cast<size_t>(c)] / total;
      const double allow = mine.empty()
                               ? 0
                               : size[static_cast<size_t>(c)] / total * (kBf16Half + 1e-4) +
                                     std::fabs(want) * kBf16Half;
      ASSERT_NEAR(bf16_to_float(got.out[line * value() + static_cast<size_t>(c)]), want,
                  allow + 1e-6)
          << "row " << row << " head " << head << " channel " << c;
    }
  }

  void expect_right(const MlaCase& given) {
    make(given);
    const Result got = run();
    for (int32_t row = 0; row < rows; ++row) {
      for (int32_t head = 0; head < what.heads; head += what.heads > 20 ? 13 : 3) {
        expect_head(got, row, head);
        if (HasFatalFailure()) return;
      }
      expect_head(got, row, what.heads - 1);
      if (HasFatalFailure()) return;
    }
  }

  MlaCase what;
  int32_t rows = 0, max_keys = 0, pages_a_row = 0, num_pages = 0;
  float scale = 0.04F;
  std::vector<float> q, keys;
  std::vector<uint8_t> pool;
  std::vector<int32_t> table, lists;
  std::vector<std::vector<int32_t>> slots;
};

TEST_F(MlaTest, OneTile) {
  for (const bool e4m3 : {false, true}) {
    expect_right({.counts = {48}, .e4m3 = e4m3, .splits = 1});
    expect_right({.counts = {1}, .e4m3 = e4m3, .splits = 1});
    expect_right({.counts = {47}, .e4m3 = e4m3, .splits = 1});
  }
}

TEST_F(MlaTest, ListsOfSlotsOfAnyLength) {
  for (const bool e4m3 : {false, true}) {
    for (const int32_t splits : {1, 3, 0}) {
      expect_right({.counts = {300, 0, 1, 49, 96, 97, 512, 144},
                    .e4m3 = e4m3,
                    .splits = splits,
                    .none_every = 7});
    }
  }
}

TEST_F(MlaTest, HeadsOfAnyNumber) {
  for (const bool e4m3 : {false, true}) {
    for (const int32_t heads : {1, 8, 16, 32, 65, 128}) {
      expect_right({.counts = {200, 130}, .heads = heads, .e4m3 = e4m3, .splits = heads % 3 + 1});
    }
  }
}

TEST_F(MlaTest, SeveralTilesOfHeads) {
  for (const int32_t heads : {128, 192, 256}) {
    for (const int32_t splits : {1, 3, 0}) {
      expect_right({.counts = {300, 0, 1, 23, 24, 25, 49, 96, 97, 512, 144},
                    .heads = heads,
                    .e4m3 = true,
                    .page_size = 61,
                    .local = splits == 3,
                    .page_gap = 48,
                    .splits = splits,
                    .none_every = heads / 64 + 3});
    }
  }
  expect_right(
      {.counts = {900, 500}, .heads = 100, .e4m3 = true, .splits = 1, .key_growth = 0.004F});
}

// Each way in which parts are joined, and rows with fewer tiles than splits.
TEST_F(MlaTest, PartsOfAnyNumber) {
  for (const int32_t splits : {2, 8, 9, 16, 17, 32, 33, 64}) {
    expect_right({.counts = {3100, 700, 40, 0}, .heads = 20, .e4m3 = true, .splits = splits});
  }
}

TEST_F(MlaTest, TokensThroughAPageTable) {
  for (const bool e4m3 : {false, true}) {
    for (const int32_t page_size : {64, 16, 61, 1}) {
      expect_right({.counts = {150, 70, 3},
                    .heads = 16,
                    .e4m3 = e4m3,
                    .page_size = page_size,
                    .local = true,
                    .page_gap = page_size == 61 ? 48 : 0});
      expect_right({.counts = {150, 70, 3},
                    .heads = 16,
                    .e4m3 = e4m3,
                    .page_size = page_size,
                    .page_gap = 4096});
    }
  }
}

TEST_F(MlaTest, AllKeys) {
  for (const bool e4m3 : {false, true}) {
    expect_right({.counts = {1000, 1, 0, 333}, .e4m3 = e4m3, .listed = false});
    expect_right({.counts = {700, 48},
                  .heads = 128,
                  .e4m3 = e4m3,
                  .page_size = 16,
                  .listed = false,
                  .splits = 5});
  }
}

TEST_F(MlaTest, TheMaximumMovesOn) {
  for (const bool e4m3 : {false, true}) {
    expect_right(
        {.counts = {900, 500}, .e4m3 = e4m3, .listed = false, .splits = 1, .key_growth = 0.004F});
    expect_right({.counts = {900, 500}, .e4m3 = e4m3, .splits = 4, .key_growth = 0.004F});
  }
}

TEST_F(MlaTest, MoreItemsThanProcessors) {
  for (const bool e4m3 : {false, true}) {
    std::vector<int32_t> counts;
    for (int32_t i = 0; i < 150; ++i) counts.push_back(i % 11 == 3 ? 0 : i * 37 % 210);
    expect_right({.counts = counts, .heads = 128, .e4m3 = e4m3, .splits = 1});
    expect_right({.counts = counts, .heads = 64, .e4m3 = e4m3, .splits = 3});
  }
}

TEST_F(MlaTest, NothingButNone) {
  expect_right({.counts = {100, 40}, .splits = 1, .none_every = 1});
  expect_right({.counts = {100, 40}, .e4m3 = true, .splits = 2, .none_every = 1});
}

TEST_F(MlaTest, TheSameBitsEachTime) {
  for (const bool e4m3 : {false, true}) {
    make({.counts = std::vector<int32_t>(40, 700),
          .heads = 128,
          .e4m3 = e4m3,
          .key_growth = 0.001F});
    const Result first = run();
    for (int i = 0; i < 5; ++i) {
      const Result again = run();
      ASSERT_EQ(again.out, first.out);
      ASSERT_EQ(again.lse, first.lse);
    }
  }
}

TEST_F(MlaTest, RowsOfOtherSizes) {
  constexpr LatentDims kSizes[] = {{8, 16}, {64, 16}, {256, 64}, {504, 32}, {896, 256}};
  for (const LatentDims& dims : kSizes) {
    expect_right({.counts = {300, 0, 1, 31, 32, 33, 64},
                  .heads = 3,
                  .local = true,
                  .none_every = 7,
                  .dims = dims});
    expect_right({.counts = {200, 1, 0, 97},
                  .heads = 17,
                  .page_size = 61,
                  .listed = false,
                  .page_gap = 48,
                  .key_growth = 0.004F,
                  .dims = dims});
    expect_right({.counts = {100, 40}, .heads = 8, .local = true, .none_every = 1, .dims = dims});
  }
}

TEST_F(MlaTest, RowsOfOtherSizesGiveTheSameBitsEachTime) {
  make({.counts = std::vector<int32_t>(300, 500), .heads = 9, .listed = false, .dims = {256, 64}});
  const Result first = run();
  for (int i = 0; i < 3; ++i) ASSERT_EQ(run().out, first.out);
}

TEST_F(MlaTest, RefusesRowsThatNoKernelServes) {
  for (const LatentDims& dims : {LatentDims{60, 64}, {904, 64}, {256, 8}, {256, 272}, {0, 64}}) {
    EXPECT_THROW(check_latent_dims(dims), Error) << dims.rank << " " << dims.rope;
  }
  check_latent_dims({512, 64});
}

class MlaStoreTest : public CudaTest {};

TEST_F(MlaStoreTest, RowsOfOtherSizes) {
  constexpr int32_t kRows = 9;
  constexpr int32_t kPage = 4;
  constexpr int32_t kPages = 4;
  for (const LatentDims& dims : {LatentDims{64, 16}, {896, 256}}) {
    const int32_t width = dims.width();
    const std::vector<uint16_t> values = to_bf16(normal(static_cast<size_t>(kRows) * width));
    std::vector<int32_t> slots(kRows);
    std::iota(slots.begin(), slots.end(), 5);
    slots[2] = -1;
    const int64_t page_bytes = int64_t{kPage} * width * 2 + 16;
    std::vector<uint8_t> want(static_cast<size_t>(page_bytes * kPages), 0x5a);
    const DeviceArray<uint8_t> cache = upload(want);
    const DeviceArray<uint16_t> rows = upload(values);
    const DeviceArray<int32_t> to = upload(slots);
    foveal_mla_store_params p{};
    p.num_rows = kRows;
    p.latent = rows.data();
    p.rope = rows.data() + dims.rank;
    p.latent_stride = p.rope_stride = width;
    p.slots = to.data();
    p.cache = {cache.data(), page_bytes, FOVEAL_BF16, kPage, kPages};
    latent_any_store(p, dims, stream_.native());
    for (int32_t row = 0; row < kRows; ++row) {
      const int32_t slot = slots[static_cast<size_t>(row)];
      if (slot < 0) continue;
      std::memcpy(&want[static_cast<size_t>(slot / kPage * page_bytes + slot % kPage * width * 2)],
                  &values[static_cast<size_t>(row) * width], static_cast<size_t>(width) * 2);
    }
    EXPECT_EQ(cache.download(), want) << width;
  }
}

TEST_F(MlaStoreTest, RowsAsTheyAreOrRounded) {
  constexpr int32_t kRows = 37;
  constexpr int32_t kPage = 16;
  constexpr int32_t kPages = 5;
  std::vector<float> values = rounded(normal(static_cast<size_t>(kRows) * kDim, 2));
  for (int32_t i = 0; i < kDim; ++i) values[static_cast<size_t>(i)] = 0;  // no amax
  for (size_t i = 0; i < 128; ++i) values[kDim + i] = i % 2 == 0 ? 448 : -1;
  std::vector<int32_t> slots(kRows);
  std::iota(slots.begin(), slots.end(), 20);
  slots[5] = -1;
  slots[6] = kPage * kPages;  // outside
  const DeviceArray<uint16_t> rows = upload(to_bf16(values));
  const DeviceArray<int32_t> to = upload(slots);
  for (const bool e4m3 : {false, true}) {
    const int32_t row_bytes = e4m3 ? FOVEAL_MLA_FP8_ROW : kDim * 2;
    const int64_t page_bytes = int64_t{kPage} * row_bytes + 32;
    std::vector<uint8_t> want(static_cast<size_t>(page_bytes * kPages), 0x5a);
    const DeviceArray<uint8_t> cache = upload(want);
    foveal_mla_store_params p{};
    p.struct_size = sizeof(p);
    p.num_rows = kRows;
    p.latent = rows.data();
    p.latent_stride = p.rope_stride = kDim;
    p.rope = rows.data() + kValue;
    p.slots = to.data();
    p.cache = {cache.data(), page_bytes, e4m3 ? FOVEAL_E4M3 : FOVEAL_BF16, kPage, kPages};
    mla_store(p, stream_.native());
    for (int32_t row = 0; row < kRows; ++row) {
      const int32_t slot = slots[static_cast<size_t>(row)];
      if (slot < 0 || slot >= kPage * kPages) continue;
      uint8_t* at =
          &want[static_cast<size_t>(slot / kPage * page_bytes + slot % kPage * row_bytes)];
      const float* x = &values[static_cast<size_t>(row) * kDim];
      for (int32_t group = 0; e4m3 && group < 4; ++group) {
        float most = 1e-4F * 448;
        for (int32_t i = 0; i < 128; ++i) most = std::max(most, std::fabs(x[group * 128 + i]));
        const float scale = std::exp2(std::ceil(std::log2(most / 448)));
        std::memcpy(at + kValue + group * 4, &scale, 4);
        for (int32_t i = 0; i < 128; ++i) {
          at[group * 128 + i] = float_to_e4m3(x[group * 128 + i] / scale);
        }
      }
      for (int32_t i = e4m3 ? kValue : 0; i < kDim; ++i) {
        const uint16_t bits = float_to_bf16(x[i]);
        std::memcpy(at + (e4m3 ? kValue + 16 + (i - kValue) * 2 : i * 2), &bits, 2);
      }
    }
    EXPECT_EQ(cache.download(), want) << "e4m3 " << e4m3;
  }
}

TEST_F(MlaStoreTest, RowsOfARaggedBatch) {
  const DeviceArray<int32_t> cu_q = upload(std::vector<int32_t>{0, 3, 3, 4, 9});
  const DeviceArray<int32_t> kv_len = upload(std::vector<int32_t>{10, 7, 1, 5});
  const DeviceArray<int32_t> counts(stream_, 11);
  const DeviceArray<int32_t> row_seq(stream_, 11);
  foveal_mla_rows_params p{};
  p.struct_size = sizeof(p);
  p.num_seqs = 4;
  p.num_rows = 11;
  p.cu_q = cu_q.data();
  p.kv_len = kv_len.data();
  p.counts = counts.data();
  p.row_seq = row_seq.data();
  mla_rows(p, stream_.native());
  EXPECT_EQ(counts.download(), (std::vector<int32_t>{8, 9, 10, 1, 1, 2, 3, 4, 5, 0, 0}));
  EXPECT_EQ(row_seq.download(), (std::vector<int32_t>{0, 0, 0, 2, 3, 3, 3, 3, 3, 0, 0}));
  p.cu_q = nullptr;
  mla_rows(p, stream_.native());
  EXPECT_EQ(counts.download(), (std::vector<int32_t>{10, 7, 1, 5, 0, 0, 0, 0, 0, 0, 0}));
}

}  // namespace
}  // namespace foveal::kernels::cuda::testing

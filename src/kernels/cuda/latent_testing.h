#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <tuple>

#include "kernels/cuda/dense_cuda_testing.h"
#include "kernels/cuda/latent.h"
#include "kernels/cuda/latent_any.h"

// Cases of latent attention, and what they should give.

namespace foveal::kernels::cuda::testing {

inline constexpr int32_t kDim = FOVEAL_MLA_HEAD_DIM;
inline constexpr int32_t kValue = FOVEAL_MLA_VALUE_DIM;

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
  bool fixed = false;      ///< splits
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
      if (!what.listed) spoil_pages(row);
    }
  }

  /// What is no key holds anything.
  void spoil_pages(int32_t row) {
    const int32_t* pages = &table[static_cast<size_t>(row) * pages_a_row];
    const int32_t tokens = pages_a_row * what.page_size;
    for (int32_t token = what.counts[static_cast<size_t>(row)]; token < tokens; ++token) {
      const int64_t slot =
          int64_t{pages[token / what.page_size]} * what.page_size + token % what.page_size;
      std::memset(stored(slot), 0xff, static_cast<size_t>(row_bytes()));
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
    if (what.fixed) p.flags |= FOVEAL_MLA_FIXED_SPLITS;
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

  /// One row as a call of its own.
  Result run_alone(int32_t row) {
    const auto all = std::tuple(what.counts, q, lists, table, rows, max_keys);
    const auto keep = [&](auto& values, int64_t stride, int64_t count) {
      values = {values.begin() + row * stride, values.begin() + row * stride + count};
    };
    const int32_t count = std::max(1, what.counts[static_cast<size_t>(row)]);
    keep(what.counts, 1, 1);
    keep(q, int64_t{what.heads} * dim(), int64_t{what.heads} * dim());
    keep(lists, max_keys, count);
    keep(table, pages_a_row, pages_a_row);
    rows = 1;
    max_keys = count;
    const Result out = run();
    std::tie(what.counts, q, lists, table, rows, max_keys) = all;
    return out;
  }

  /// Right, and the first rows' bits those of the row alone.
  void expect_same_alone(const MlaCase& given, int32_t first_rows) {
    expect_right(given);
    const Result batch = run();
    for (int32_t row = 0; row < first_rows; ++row) {
      const Result alone = run_alone(row);
      const size_t lines = static_cast<size_t>(what.heads);
      const auto at = static_cast<std::ptrdiff_t>(row * lines);
      ASSERT_TRUE(std::equal(alone.out.begin(), alone.out.end(),
                             batch.out.begin() + at * static_cast<std::ptrdiff_t>(value())))
          << "row " << row;
      ASSERT_TRUE(std::equal(alone.lse.begin(), alone.lse.end(), batch.lse.begin() + at))
          << "row " << row;
    }
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

}  // namespace foveal::kernels::cuda::testing

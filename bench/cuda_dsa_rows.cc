// Top-k and the parts of DeepSeek Sparse Attention on a GPU: index scores, latent attention over
// all keys and over lists of them. Heads and channels are DeepSeek-V3.2's.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>

#include "base/check.h"
#include "base/half.h"
#include "base/math.h"
#include "cuda_rows.h"
#include "cuda_truth.h"
#include "kernels/cuda/elementwise.h"
#include "kernels/cuda/indexer.h"
#include "kernels/cuda/latent.h"
#include "kernels/cuda/top_k.h"
#include "kernels/topk.h"

namespace foveal::bench {
namespace {

using namespace kernels::cuda;

constexpr int32_t kIndexHeads = 64;
constexpr int32_t kIndexDim = 128;
constexpr int32_t kLatentHeads = 128;
constexpr int32_t kListed = 2048;

/// Pages of sequences of equal length, one after the other.
std::vector<int32_t> pages_in_order(int32_t count) {
  std::vector<int32_t> out(static_cast<size_t>(count));
  for (int32_t idx = 0; idx < count; ++idx) out[static_cast<size_t>(idx)] = idx;
  return out;
}

Buffer filled(const std::vector<int32_t>& values, const Stream& stream) {
  Buffer out = CudaBench::zeros(values.size() * 4);
  to_device(out, values, stream);
  return out;
}

const int32_t* ints(const Buffer& buffer) {
  return reinterpret_cast<const int32_t*>(buffer.data());
}

/// Index keys of `batch` sequences, and a query of each.
class IndexCase {
 public:
  IndexCase(CudaBench& bench, const KernelShape& shape)
      : bench_(bench),
        shape_(shape),
        pages_a_seq_(ceil_div(shape.keys, shape.page_size)),
        num_pages_(shape.batch * pages_a_seq_),
        page_bytes_(int64_t{shape.page_size} * (kIndexDim + 4)),
        lane_(CudaBench::zeros(static_cast<size_t>(num_pages_ * page_bytes_))),
        table_(filled(pages_in_order(num_pages_), bench.stream())),
        lengths_(filled(std::vector<int32_t>(static_cast<size_t>(shape.batch), shape.keys),
                        bench.stream())),
        q_out_(CudaBench::zeros(size_t{1} * shape.batch * kIndexHeads * kIndexDim)),
        weights_out_(CudaBench::zeros(size_t{4} * shape.batch * kIndexHeads)),
        scores_(CudaBench::zeros(size_t{4} * shape.batch * shape.keys)) {
    std::vector<int32_t> ends;
    for (int32_t seq = 0; seq <= shape.batch; ++seq) ends.push_back(seq * shape.keys);
    const Buffer cu_q = filled(ends, bench.stream());
    foveal_indexer_prepare_params p = prepare();
    const Buffer k = bench.weights(size_t{1} * shape.batch * shape.keys * kIndexDim, 21);
    p.num_rows = ends.back();
    p.cu_q = ints(cu_q);
    p.k = k.data();
    indexer_prepare(p, bench.stream().native());
    const Buffer q = bench.weights(size_t{1} * shape.batch * kIndexHeads * kIndexDim, 22);
    std::vector<float> projected(static_cast<size_t>(shape.batch) * kIndexHeads);
    std::mt19937_64 rng(23);
    std::normal_distribution<float> normal;
    for (float& weight : projected) weight = normal(rng);
    const Buffer weights = CudaBench::zeros(projected.size() * 4);
    to_device(weights, projected, bench.stream());
    p = prepare();
    p.num_rows = shape.batch;
    p.q = q.data();
    p.q_row_stride = int64_t{kIndexHeads} * kIndexDim;
    p.weights = reinterpret_cast<const float*>(weights.data());
    p.weights_row_stride = kIndexHeads;
    p.k = k.data();
    p.q_out = q_out_.data();
    p.weights_out = reinterpret_cast<float*>(weights_out_.data());
    indexer_prepare(p, bench.stream().native());
    bench.stream().synchronize();
  }

  foveal_indexer_scores_params params() const {
    foveal_indexer_scores_params p{};
    p.struct_size = sizeof(p);
    p.num_seqs = p.num_rows = p.row_count = shape_.batch;
    p.num_heads = kIndexHeads;
    p.head_dim = kIndexDim;
    p.q = q_out_.data();
    p.weights = reinterpret_cast<const float*>(weights_out_.data());
    p.kv_len = ints(lengths_);
    p.page_table = ints(table_);
    p.page_table_stride = pages_a_seq_;
    p.max_kv_len = shape_.keys;
    p.keys = keys();
    p.scores = reinterpret_cast<float*>(scores_.data());
    p.row_stride = shape_.keys;
    return p;
  }

  /// Every 97th key of the last row. Tensor cores cut products of e4m3 13 bits below their sum.
  void check() const {
    const int32_t row = shape_.batch - 1;
    const size_t vectors = size_t{1} * kIndexHeads * kIndexDim;
    const Stream& stream = bench_.stream();
    const auto q = to_host<uint8_t>(q_out_.data() + row * vectors, vectors, stream);
    const auto weights =
        to_host<float>(weights_out_.data() + size_t{4} * row * kIndexHeads, kIndexHeads, stream);
    const auto got = to_host<float>(scores_.data() + size_t{4} * row * shape_.keys,
                                    static_cast<size_t>(shape_.keys), stream);
    for (int32_t key = 0; key < shape_.keys; key += 97) {
      const auto page = to_host<uint8_t>(
          lane_.data() + (int64_t{row} * pages_a_seq_ + key / shape_.page_size) * page_bytes_,
          static_cast<size_t>(page_bytes_), stream);
      const int32_t at = key % shape_.page_size;
      float scale = 0;
      std::memcpy(
          &scale,
          &page[static_cast<size_t>(shape_.page_size) * kIndexDim + 4 * static_cast<size_t>(at)],
          4);
      double sum = 0;
      double size = 0;
      for (int32_t head = 0; head < kIndexHeads; ++head) {
        double product = 0;
        double magnitude = 0;
        for (int32_t c = 0; c < kIndexDim; ++c) {
          const double term =
              double{e4m3_to_float(
                  q[static_cast<size_t>(head) * kIndexDim + static_cast<size_t>(c)])} *
              double{e4m3_to_float(
                  page[static_cast<size_t>(at) * kIndexDim + static_cast<size_t>(c)])};
          product += term;
          magnitude += std::fabs(term);
        }
        sum += double{weights[static_cast<size_t>(head)]} * std::max(product, 0.0);
        size += std::fabs(double{weights[static_cast<size_t>(head)]}) * magnitude;
      }
      expect_near("index scores", got[static_cast<size_t>(key)], sum * scale,
                  0x1p-10 * size * scale + 1e-6);
    }
  }

 private:
  foveal_index_keys keys() const {
    return {.data = lane_.data(),
            .page_bytes = page_bytes_,
            .page_size = shape_.page_size,
            .num_pages = num_pages_};
  }
  foveal_indexer_prepare_params prepare() const {
    foveal_indexer_prepare_params p{};
    p.struct_size = sizeof(p);
    p.num_seqs = shape_.batch;
    p.num_heads = kIndexHeads;
    p.head_dim = kIndexDim;
    p.k_row_stride = kIndexDim;
    p.kv_len = ints(lengths_);
    p.page_table = ints(table_);
    p.page_table_stride = pages_a_seq_;
    p.keys = keys();
    return p;
  }

  CudaBench& bench_;
  KernelShape shape_;
  int32_t pages_a_seq_;
  int32_t num_pages_;
  int64_t page_bytes_;
  Buffer lane_, table_, lengths_, q_out_, weights_out_, scores_;
};

/// A latent cache and a query token of each sequence.
class LatentCase {
 public:
  LatentCase(CudaBench& bench, const KernelShape& shape)
      : bench_(bench),
        shape_(shape),
        pages_a_seq_(ceil_div(shape.keys, shape.page_size)),
        rows_(size_t{1} * shape.batch * pages_a_seq_ * shape.page_size),
        cache_(CudaBench::zeros(rows_ * kDim * 2)),
        q_(CudaBench::zeros(size_t{2} * shape.batch * kLatentHeads * kDim)),
        out_(CudaBench::zeros(size_t{2} * shape.batch * kLatentHeads * FOVEAL_MLA_VALUE_DIM)),
        table_(filled(pages_in_order(shape.batch * pages_a_seq_), bench.stream())),
        counts_(filled(std::vector<int32_t>(static_cast<size_t>(shape.batch), shape.keys),
                       bench.stream())) {
    const auto fill = [&](const Buffer& to, uint64_t seed) {
      fill_normal(reinterpret_cast<uint16_t*>(to.data()), static_cast<int64_t>(to.size() / 2), seed,
                  1.0F, bench.stream());
    };
    fill(cache_, 31);
    fill(q_, 32);
    std::vector<int32_t> all(static_cast<size_t>(shape.keys));
    for (int32_t idx = 0; idx < shape.keys; ++idx) all[static_cast<size_t>(idx)] = idx;
    std::mt19937_64 rng(33);
    for (int32_t row = 0; row < shape.batch; ++row) {
      std::sample(all.begin(), all.end(), std::back_inserter(lists_), listed(), rng);
    }
    indices_ = filled(lists_, bench.stream());
  }

  int32_t listed() const { return std::min(kListed, shape_.keys); }

  foveal_mla_params params(bool lists) const {
    foveal_mla_params p{};
    p.struct_size = sizeof(p);
    p.num_rows = shape_.batch;
    p.num_heads = kLatentHeads;
    p.max_keys = lists ? listed() : shape_.keys;
    p.q = q_.data();
    p.q_row_stride = int64_t{kLatentHeads} * kDim;
    p.q_head_stride = kDim;
    p.out = out_.data();
    p.out_row_stride = int64_t{kLatentHeads} * FOVEAL_MLA_VALUE_DIM;
    p.out_head_stride = FOVEAL_MLA_VALUE_DIM;
    p.cache = {.data = cache_.data(),
               .page_bytes = int64_t{shape_.page_size} * kDim * 2,
               .dtype = FOVEAL_BF16,
               .page_size = shape_.page_size,
               .num_pages = shape_.batch * pages_a_seq_};
    if (lists) p.indices = ints(indices_);
    p.indices_stride = listed();
    if (!lists) p.counts = ints(counts_);
    p.page_table = ints(table_);
    p.page_table_stride = pages_a_seq_;
    p.softmax_scale = kScale;
    p.flags = lists ? FOVEAL_MLA_LOCAL : 0;
    return p;
  }

  void check(bool lists) const {
    const int32_t row = shape_.batch - 1;
    const size_t length = static_cast<size_t>(pages_a_seq_) * shape_.page_size * kDim;
    const auto latent =
        to_host<uint16_t>(cache_.data() + 2 * row * length, length, bench_.stream());
    const auto key = [&](int32_t idx) {
      const int32_t at =
          lists ? lists_[static_cast<size_t>(row) * listed() + static_cast<size_t>(idx)] : idx;
      return &latent[static_cast<size_t>(at) * kDim];
    };
    for (const int32_t head : {0, kLatentHeads - 1}) {
      const size_t line = static_cast<size_t>(row) * kLatentHeads + head;
      const auto q = to_host<uint16_t>(q_.data() + 2 * line * kDim, kDim, bench_.stream());
      const auto got = to_host<uint16_t>(out_.data() + 2 * line * FOVEAL_MLA_VALUE_DIM,
                                         FOVEAL_MLA_VALUE_DIM, bench_.stream());
      expect_attention("latent attention", got,
                       attend({.q = q,
                               .num_keys = lists ? listed() : shape_.keys,
                               .key = key,
                               .value = key,
                               .value_dim = FOVEAL_MLA_VALUE_DIM,
                               .scale = kScale}));
    }
  }

 private:
  static constexpr int32_t kDim = FOVEAL_MLA_HEAD_DIM;
  static constexpr float kScale = 0.04F;

  CudaBench& bench_;
  KernelShape shape_;
  int32_t pages_a_seq_;
  size_t rows_;
  Buffer cache_, q_, out_, table_, counts_, indices_;
  std::vector<int32_t> lists_;
};

}  // namespace

void CudaRows::top_k(const KernelShape& shape, const Done& done) {
  const int32_t k = std::min(kListed, shape.keys / 2);
  const auto length = static_cast<size_t>(shape.keys);
  std::vector<float> values(static_cast<size_t>(shape.batch) * length);
  std::mt19937_64 rng(3);
  std::normal_distribution<float> normal;
  for (float& value : values) value = normal(rng);
  const Buffer rows = zeros(values.size() * 4);
  to_device(rows, values, stream());
  const Buffer indices = zeros(size_t{4} * shape.batch * k);
  foveal_top_k_params p{};
  p.struct_size = sizeof(p);
  p.num_rows = shape.batch;
  p.values = reinterpret_cast<const float*>(rows.data());
  p.row_stride = p.max_length = shape.keys;
  p.k = k;
  p.indices = reinterpret_cast<int32_t*>(indices.data());
  p.indices_stride = k;
  const double us = time_cold([&] { kernels::cuda::top_k(p, stream().native()); });
  for (int32_t row = 0; row < shape.batch; ++row) {
    std::vector<int32_t> want =
        kernels::top_k(std::span<const float>(values).subspan(row * length, length), k);
    std::sort(want.begin(), want.end());
    const auto got =
        to_host<int32_t>(indices.data() + size_t{4} * row * k, static_cast<size_t>(k), stream());
    FOVEAL_CHECK(got == want, ErrorKind::kInternal, "bench",
                 "got another set of the {} largest than a sort; need the same", k);
  }
  add({.kernel = "topk",
       .shape = fmt::format("{} rows, {} of {}", shape.batch, k, shape.keys),
       .seconds = 1e-6 * us,
       .gbyte = 4e-9 * static_cast<double>(values.size())},
      done);
}

void CudaRows::dsa(const KernelShape& shape, const Done& done) {
  index_scores(shape, done);
  latent(shape, done);
}

void CudaRows::index_scores(const KernelShape& shape, const Done& done) {
  const IndexCase index(*this, shape);
  const double us = time_cold([&] { indexer_scores(index.params(), stream().native()); });
  index.check();
  add({.kernel = "dsa: index scores",
       .shape = fmt::format("{} rows, {} keys, {} heads, dim {}, e4m3", shape.batch, shape.keys,
                            kIndexHeads, kIndexDim),
       .seconds = 1e-6 * us,
       .gbyte = 1e-9 * shape.batch * shape.keys * (kIndexDim + 4 + 4)},
      done);
}

void CudaRows::latent(const KernelShape& shape, const Done& done) {
  const LatentCase latent(*this, shape);
  for (const bool lists : {false, true}) {
    foveal_mla_params p = latent.params(lists);
    const Buffer workspace = zeros(mla_workspace_bytes(p) + 256);
    p.workspace = workspace.data();
    p.workspace_bytes = workspace.size();
    const double us = time_cold([&] { mla_attention(p, stream().native()); });
    latent.check(lists);
    const double pairs = double{1} * shape.batch * kLatentHeads * p.max_keys;
    add({.kernel = lists ? "dsa: latent decode, lists" : "dsa: latent decode, all",
         .shape = fmt::format("{} rows, {} of {} keys, {} heads", shape.batch, p.max_keys,
                              shape.keys, kLatentHeads),
         .seconds = 1e-6 * us,
         .gflop = 2e-9 * pairs * (FOVEAL_MLA_HEAD_DIM + FOVEAL_MLA_VALUE_DIM)},
        done);
  }
}

}  // namespace foveal::bench

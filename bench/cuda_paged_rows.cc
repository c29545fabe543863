// Attention over a paged cache and RocketKV's parts, on a GPU.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

#include "base/check.h"
#include "base/math.h"
#include "cuda_rows.h"
#include "cuda_truth.h"
#include "kernels/cuda/attention.h"
#include "kernels/cuda/elementwise.h"
#include "kernels/cuda/rocket.h"
#include "rocket_params.h"

namespace foveal::bench {
namespace {

using namespace kernels::cuda;

/// A cache in shuffled pages. Three of four runs of 256 keys are a tenth of the others' size, so
/// that there is something to leave out.
class PagedCache {
 public:
  PagedCache(CudaBench& bench, const KernelShape& shape, int32_t seqs, int32_t query_rows)
      : bench_(bench),
        shape_(shape),
        seqs_(seqs),
        pages_a_seq_(ceil_div(shape.keys, shape.page_size)),
        k_(bench.weights(elements(), 1)),
        v_(bench.weights(elements(), 2)),
        q_(bench.weights(query_elements(query_rows), 3)),
        out_(CudaBench::zeros(query_elements(query_rows) * 2)),
        table_(CudaBench::zeros(static_cast<size_t>(seqs) * pages_a_seq_ * 4)),
        lengths_(CudaBench::zeros(static_cast<size_t>(seqs) * 4)),
        starts_(CudaBench::zeros(8)),
        counters_(CudaBench::zeros(static_cast<size_t>(seqs) * 32)) {
    order_.resize(static_cast<size_t>(seqs) * pages_a_seq_);
    std::iota(order_.begin(), order_.end(), 0);
    std::shuffle(order_.begin(), order_.end(), std::mt19937(5));
    to_device(table_, order_, bench_.stream());
    to_device(lengths_, std::vector<int32_t>(static_cast<size_t>(seqs), shape.keys),
              bench_.stream());
    to_device(starts_, std::vector<int32_t>{0, query_rows}, bench_.stream());
    fill(q_, query_elements(query_rows), 3, 2.0F);
    for (size_t at = 0; at < order_.size(); ++at) {
      const auto run = static_cast<int32_t>(at) % pages_a_seq_ * shape.page_size / 256;
      const size_t page = static_cast<size_t>(order_[at]) * page_elements();
      fill_at(k_, page, page_elements(), 10 + at, run % 4 == 0 ? 1.0F : 0.1F);
      fill_at(v_, page, page_elements(), 1000000 + at, 1.0F);
    }
    bench_.stream().synchronize();
  }

  /// Decode of a row a sequence; with `rows`, the prefill of that many at the end of the one.
  foveal_attention_params params(int32_t rows, float factor) const {
    foveal_attention_params p{};
    p.struct_size = sizeof(p);
    p.q = q_.data();
    p.out = out_.data();
    p.q_row_stride = p.out_row_stride = int64_t{heads()} * shape_.head_dim;
    p.q_head_stride = p.out_head_stride = shape_.head_dim;
    p.k = k_.data();
    p.v = v_.data();
    p.k_page_stride = p.v_page_stride = static_cast<int64_t>(page_elements());
    p.k_head_stride = p.v_head_stride = int64_t{shape_.page_size} * shape_.head_dim;
    p.k_token_stride = p.v_token_stride = shape_.head_dim;
    p.num_seqs = seqs_;
    p.num_rows = rows > 0 ? rows : seqs_;
    p.num_heads = heads();
    p.num_kv_heads = shape_.num_kv_heads;
    p.head_dim = shape_.head_dim;
    p.page_size = shape_.page_size;
    p.num_pages = static_cast<int32_t>(order_.size());
    p.max_q_len = std::max(rows, 1);
    p.max_kv_len = shape_.keys;
    p.cu_q = rows > 0 ? reinterpret_cast<const int32_t*>(starts_.data()) : nullptr;
    p.kv_len = reinterpret_cast<const int32_t*>(lengths_.data());
    p.page_table = reinterpret_cast<const int32_t*>(table_.data());
    p.page_table_stride = pages_a_seq_;
    p.softmax_scale = scale();
    p.q_scale = p.k_scale = p.v_scale = 1;
    p.skip_factor = factor;
    return p;
  }

  uint64_t* counters() const {
    bench_.stream().fill(counters_.data(), 0, counters_.size());
    return reinterpret_cast<uint64_t*>(counters_.data());
  }
  /// Share of tiles left out, of what was counted.
  double skipped() const {
    const auto counted =
        to_host<uint64_t>(counters_.data(), static_cast<size_t>(seqs_) * 4, bench_.stream());
    double tiles = 0;
    double left = 0;
    for (size_t at = 0; at < counted.size(); at += 4) {
      tiles += static_cast<double>(counted[at + 2]);
      left += static_cast<double>(counted[at + 3]);
    }
    return tiles > 0 ? left / tiles : 0;
  }

  /// Holds the output of a query row and head against the truth over `keys` (null: the first
  /// `num_keys`).
  void check(std::string_view what, int32_t seq, int32_t row, int32_t head, int32_t num_keys,
             const std::vector<int32_t>* keys, double log_threshold) const {
    const size_t dim = static_cast<size_t>(shape_.head_dim);
    const size_t at = (static_cast<size_t>(row) * heads() + head) * dim;
    const auto q = to_host<uint16_t>(q_.data() + at * 2, dim, bench_.stream());
    const auto got = to_host<uint16_t>(out_.data() + at * 2, dim, bench_.stream());
    const std::vector<uint16_t> k = head_rows(k_, seq, head / shape_.group);
    const std::vector<uint16_t> v = head_rows(v_, seq, head / shape_.group);
    const auto row_of = [&](const std::vector<uint16_t>& from, int32_t idx) {
      return &from[static_cast<size_t>(keys == nullptr ? idx : (*keys)[idx]) * dim];
    };
    expect_attention(what, got,
                     attend({.q = q,
                             .num_keys = num_keys,
                             .key = [&](int32_t idx) { return row_of(k, idx); },
                             .value = [&](int32_t idx) { return row_of(v, idx); },
                             .value_dim = shape_.head_dim,
                             .scale = scale(),
                             .log_threshold = log_threshold}));
  }

  int32_t heads() const { return shape_.num_kv_heads * shape_.group; }

 private:
  size_t page_elements() const {
    return static_cast<size_t>(shape_.num_kv_heads) * shape_.page_size * shape_.head_dim;
  }
  size_t elements() const { return static_cast<size_t>(seqs_) * pages_a_seq_ * page_elements(); }
  size_t query_elements(int32_t rows) const {
    return static_cast<size_t>(rows) * heads() * shape_.head_dim;
  }
  float scale() const { return 1 / std::sqrt(static_cast<float>(shape_.head_dim)); }

  void fill(const Buffer& to, size_t count, uint64_t seed, float deviation) const {
    fill_at(to, 0, count, seed, deviation);
  }
  void fill_at(const Buffer& to, size_t at, size_t count, uint64_t seed, float deviation) const {
    fill_normal(reinterpret_cast<uint16_t*>(to.data()) + at, static_cast<int64_t>(count), seed,
                deviation, bench_.stream());
  }

  /// [keys, head_dim] of one KV head of one sequence.
  std::vector<uint16_t> head_rows(const Buffer& from, int32_t seq, int32_t head) const {
    const size_t part = static_cast<size_t>(shape_.page_size) * shape_.head_dim;
    std::vector<uint16_t> out(static_cast<size_t>(pages_a_seq_) * part);
    for (int32_t idx = 0; idx < pages_a_seq_; ++idx) {
      const int32_t page = order_[static_cast<size_t>(seq) * pages_a_seq_ + idx];
      const size_t at = static_cast<size_t>(page) * page_elements() + head * part;
      bench_.stream().copy(&out[idx * part], from.data() + at * 2, part * 2);
    }
    bench_.stream().synchronize();
    return out;
  }

  CudaBench& bench_;
  KernelShape shape_;
  int32_t seqs_;
  int32_t pages_a_seq_;
  Buffer k_, v_, q_, out_, table_, lengths_, starts_, counters_;
  std::vector<int32_t> order_;
};

constexpr int32_t kPageTokens = 4;

/// A decode step of RocketKV over whole caches, with what it chose.
class RocketCall {
 public:
  RocketCall(const PagedCache& cache, const KernelShape& shape)
      : cache_(cache),
        shape_(shape),
        lists_(static_cast<size_t>(shape.batch) * shape.num_kv_heads),
        pages_(CudaBench::zeros(lists_ * shape.topk * 4)),
        count_(CudaBench::zeros(lists_ * 4)) {
    params.struct_size = sizeof(params);
    params.attention = cache.params(0, 0);
    params.topk = shape.topk;
    const int64_t page_bounds =
        int64_t{2} * shape.num_kv_heads * shape.head_dim * (shape.page_size / kPageTokens);
    lane_ = CudaBench::zeros(static_cast<size_t>(params.attention.num_pages * page_bounds));
    params.bounds = {.data = lane_.data(),
                     .page_stride = page_bounds,
                     .dtype = FOVEAL_BOUND_E5M2,
                     .page_tokens = kPageTokens,
                     .kind = FOVEAL_BOUND_MIN_MAX};
    params.pages = reinterpret_cast<int32_t*>(pages_.data());
    params.count = reinterpret_cast<int32_t*>(count_.data());
    workspace_ = CudaBench::zeros(rocket_decode_workspace_bytes(params) + 256);
    params.attention.workspace = workspace_.data();
    params.attention.workspace_bytes = workspace_.size();
  }

  /// The newest page is among as many as were asked for, and attention over them is exact.
  void check(const Stream& stream) const {
    const auto top = static_cast<size_t>(shape_.topk);
    const auto chosen = to_host<int32_t>(pages_.data(), lists_ * top, stream);
    const auto counts = to_host<int32_t>(count_.data(), lists_, stream);
    const int32_t all = ceil_div(shape_.keys, kPageTokens);
    for (const int32_t seq : {0, shape_.batch - 1}) {
      for (const int32_t kv_head : {0, shape_.num_kv_heads - 1}) {
        const size_t list = static_cast<size_t>(seq) * shape_.num_kv_heads + kv_head;
        const auto pages = std::span(chosen).subspan(list * top, static_cast<size_t>(counts[list]));
        FOVEAL_CHECK(counts[list] == std::min(all, shape_.topk) && pages.back() == all - 1,
                     ErrorKind::kInternal, "bench",
                     "got {} pages from rocket; need {}, the newest among them", counts[list],
                     std::min(all, shape_.topk));
        std::vector<int32_t> keys;
        for (const int32_t page : pages) {
          for (int32_t key = page * kPageTokens;
               key < std::min((page + 1) * kPageTokens, shape_.keys); ++key) {
            keys.push_back(key);
          }
        }
        cache_.check("rocket", seq, seq, kv_head * shape_.group, static_cast<int32_t>(keys.size()),
                     &keys, -std::numeric_limits<double>::infinity());
      }
    }
  }

  foveal_rocket_params params{};

 private:
  const PagedCache& cache_;
  KernelShape shape_;
  size_t lists_;
  Buffer pages_, count_, lane_, workspace_;
};

double log_threshold(float factor, int32_t keys) {
  if (factor <= 0 || factor >= static_cast<float>(keys)) {
    return -std::numeric_limits<double>::infinity();
  }
  return std::log(double{factor} / keys) + 1e-3;  // a vote that rounding turned
}

std::string shape_text(const KernelShape& shape, int32_t rows, int32_t seqs, float factor) {
  return fmt::format("{} rows, {} keys, {} heads, {} kv, dim {}{}", rows > 0 ? rows : seqs,
                     shape.keys, shape.num_kv_heads * shape.group, shape.num_kv_heads,
                     shape.head_dim, factor == 0 ? "" : fmt::format(", factor {}", factor));
}

}  // namespace

void CudaRows::attention(const KernelShape& shape, const Done& done) {
  std::vector<float> factors{0};
  factors.insert(factors.end(), shape.factors.begin(), shape.factors.end());
  for (const bool prefill : {true, false}) {
    const int32_t rows = prefill ? std::min(shape.rows, shape.keys) : 0;
    const int32_t seqs = prefill ? 1 : shape.batch;
    const PagedCache cache(*this, shape, seqs, prefill ? rows : seqs);
    const auto entry = prefill ? attention_prefill : attention_decode;
    for (const float factor : factors) {
      foveal_attention_params p = cache.params(rows, factor);
      const Buffer workspace =
          zeros((prefill ? prefill_workspace_bytes(p) : decode_workspace_bytes(p)) + 256);
      p.workspace = workspace.data();
      p.workspace_bytes = workspace.size();
      const auto issue = [&] { entry(p, stream().native()); };
      const double us = prefill ? time(issue) : time_cold(issue);
      const double threshold = log_threshold(factor, shape.keys);
      for (const int32_t at : {0, (prefill ? rows : seqs) - 1}) {
        const int32_t seen = prefill ? shape.keys - rows + at + 1 : shape.keys;
        for (const int32_t head : {0, cache.heads() - 1}) {
          cache.check("attention", prefill ? 0 : at, at, head, seen, nullptr, threshold);
        }
      }
      if (factor > 0) {
        p.counters = cache.counters();
        entry(p, stream().native());
      }
      const double pairs = double{1} * rows * shape.keys - double{1} * rows * (rows - 1) / 2;
      add({.kernel = fmt::format("{}_{}", factor == 0 ? "attention" : "skip_softmax",
                                 prefill ? "prefill" : "decode"),
           .shape = shape_text(shape, rows, seqs, factor),
           .seconds = 1e-6 * us,
           .gflop = prefill ? 4e-9 * pairs * shape.head_dim * cache.heads() : 0,
           .gbyte = prefill ? 0 : 4e-9 * seqs * shape.keys * shape.num_kv_heads * shape.head_dim,
           .skipped = factor == 0 ? 0 : cache.skipped()},
          done);
    }
  }
}

void CudaRows::rocket(const KernelShape& shape, const Done& done) {
  const PagedCache cache(*this, shape, shape.batch, shape.batch);
  RocketCall call(cache, shape);
  const double bounds =
      time_cold([&] { rocket_bounds(bounds_of_all(call.params), stream().native()); });
  call.params.flags = FOVEAL_ROCKET_SELECT;
  const double selection = time_cold([&] { rocket_decode(call.params, stream().native()); });
  call.params.flags = 0;
  const double step = time_cold([&] { rocket_decode(call.params, stream().native()); });
  call.check(stream());
  // Of each channel the one bound that its query's sign asks for, and the keys and values chosen.
  const double channels = double{1} * shape.batch * shape.num_kv_heads * shape.head_dim;
  const double scored = channels * shape.keys / kPageTokens;
  const double attended = 4 * channels * std::min(shape.topk * kPageTokens, shape.keys);
  for (const auto& [name, us, bytes] : {std::tuple("bounds", bounds, 2 * channels * shape.keys),
                                        std::tuple("selection", selection, scored),
                                        std::tuple("decode step", step, scored + attended)}) {
    add({.kernel = fmt::format("rocket: {}", name),
         .shape = fmt::format("{} rows, {} keys, topk {}, {} kv, dim {}", shape.batch, shape.keys,
                              shape.topk, shape.num_kv_heads, shape.head_dim),
         .seconds = 1e-6 * us,
         .gbyte = 1e-9 * bytes},
        done);
  }
}

}  // namespace foveal::bench

#include "attention/rocket/rocket_testing.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numbers>
#include <numeric>
#include <random>

#include "base/half.h"
#include "base/math.h"
#include "kernels/garbage_testing.h"
#include "kernels/paged_seqs_testing.h"
#include "kernels/reference/attention.h"

namespace foveal::attention::rocket::testing {
namespace {

using kernels::testing::fill_garbage;

float to_256ths(float value) { return std::round(value * 256) / 256; }

void store_keys(const KvLayerView& kv, const std::vector<kernels::AttentionSeq>& seqs,
                int64_t num_keys, std::mt19937_64& rng, Stream& stream) {
  std::normal_distribution<float> normal;
  const int64_t kv_width = int64_t{kv.num_kv_heads} * kv.head_dim;
  std::vector<float> k(num_keys * kv_width);
  std::vector<float> v(k.size());
  for (float& x : k) x = normal(rng);
  for (float& x : v) x = normal(rng);
  kernels::kv_store({.k = k.data(),
                     .v = v.data(),
                     .k_stride = kv_width,
                     .v_stride = kv_width,
                     .kv = kv,
                     .seqs = seqs},
                    stream);
}

}  // namespace

Case::Case(const CaseShape& wanted, uint64_t seed, Stream& stream) : shape(wanted) {
  std::mt19937_64 rng(seed);
  std::normal_distribution<float> normal;
  std::vector<std::pair<int32_t, int32_t>> lens;
  for (const int32_t len : shape.lens) lens.emplace_back(1, len);
  kernels::testing::PagedSeqs paged(lens, shape.cache_page, rng);
  kv = {.page_bytes = int64_t{shape.num_kv_heads} * shape.head_dim * shape.cache_page *
                      (shape.dtype == DType::kF32 ? 4 : 2),
        .dtype = shape.dtype,
        .num_pages = paged.num_pages,
        .page_size = shape.cache_page,
        .num_kv_heads = shape.num_kv_heads,
        .head_dim = shape.head_dim};
  k_bytes_.resize(kv.page_bytes * paged.num_pages);
  v_bytes_.resize(kv.page_bytes * paged.num_pages);
  fill_garbage(k_bytes_, shape.dtype, rng);
  fill_garbage(v_bytes_, shape.dtype, rng);
  kv.k = k_bytes_.data();
  kv.v = v_bytes_.data();
  seqs = std::move(paged.queries);
  pages_ = std::move(paged.pages);
  store_keys(kv, paged.stores, paged.num_keys, rng, stream);
  q.resize(shape.lens.size() * width());
  out.resize(q.size());
  for (float& x : q) x = to_256ths(2 * normal(rng));
  bounds = {.bytes_per_page = bounds_bytes(kv, shape.page_size, shape.format),
            .format = shape.format,
            .page_size = shape.page_size};
  bound_bytes.assign(bounds.bytes_per_page * paged.num_pages,
                     std::byte{0xff});  // NaN in both formats
  bounds.data = bound_bytes.data();
  update_bounds(kv, paged.stores, bounds, stream);
}

float Case::scale() const { return 1.0F / std::sqrt(static_cast<float>(shape.head_dim)); }

kernels::PagedAttentionParams Case::attend() {
  return {.q = q.data(),
          .out = out.data(),
          .q_stride = width(),
          .out_stride = width(),
          .num_heads = shape.num_kv_heads * shape.group,
          .kv = kv,
          .seqs = seqs,
          .softmax_scale = scale()};
}

PageSelectParams Case::select(int32_t topk, int32_t num_channels) {
  return {.q = q.data(),
          .q_stride = width(),
          .num_heads = shape.num_kv_heads * shape.group,
          .kv = kv,
          .seqs = seqs,
          .bounds = bounds,
          .topk = topk,
          .num_channels = num_channels == 0 ? shape.head_dim : num_channels,
          .softmax_scale = scale()};
}

std::vector<float> prompt_queries(const Case& data, int32_t prompt_len, uint64_t seed) {
  std::mt19937_64 rng(seed);
  std::normal_distribution<float> normal(0, 1.5F);
  std::vector<float> queries(prompt_len * data.width());
  for (float& x : queries) x = normal(rng);
  return queries;
}

bool rounds(const Case& data) {
  return data.shape.dtype == DType::kBF16 &&
         kernels::cpu::active_isa() == kernels::cpu::Isa::kAvx512Bf16;
}

bool rounds_scores(const Case& data) {
  return data.shape.format == BoundFormat::kE5m2 &&
         kernels::cpu::active_isa() == kernels::cpu::Isa::kAvx512Bf16;
}

std::vector<kernels::cpu::Isa> isa_levels() {
  std::vector<kernels::cpu::Isa> levels;
  for (int level = 0; level <= static_cast<int>(kernels::cpu::machine_isa()); ++level) {
    levels.push_back(static_cast<kernels::cpu::Isa>(level));
  }
  return levels;
}

}  // namespace foveal::attention::rocket::testing

namespace foveal::attention::rocket::reference {
namespace {

using testing::Case;

double cache(const Case& data, bool key, int32_t seq, int32_t head, int32_t token,
             int32_t channel) {
  const int32_t page = data.seqs[seq].pages[token / data.kv.page_size];
  return kernels::reference::cache_value(data.kv, key, page, head, token % data.kv.page_size,
                                         channel);
}

/// q . k in the log2 domain, and the sum of the products' magnitudes.
struct Dot {
  double value = 0;
  double norm = 0;
};
Dot dot(const Case& data, const float* q, int32_t seq, int32_t head, int32_t token, bool round_q) {
  const float scale = data.scale() * std::numbers::log2e_v<float>;
  Dot out;
  for (int32_t ch = 0; ch < data.shape.head_dim; ++ch) {
    const double coef =
        round_q ? bf16_to_float(float_to_bf16(q[ch] * scale)) : static_cast<double>(q[ch]) * scale;
    const double product = coef * cache(data, true, seq, head, token, ch);
    out.value += product;
    out.norm += std::abs(product);
  }
  return out;
}

/// 2^s / sum of 2^s.
std::vector<double> softmax(const std::vector<double>& s) {
  const double top = *std::max_element(s.begin(), s.end());
  std::vector<double> p;
  double sum = 0;
  for (const double score : s) sum += p.emplace_back(std::exp2(score - top));
  for (double& weight : p) weight /= sum;
  return p;
}

}  // namespace

WindowScores window_scores(const Case& data, const std::vector<float>& queries, int32_t window,
                           int32_t head, bool round_q) {
  const auto prompt_len = static_cast<int32_t>(static_cast<int64_t>(queries.size()) / data.width());
  WindowScores out;
  out.scores.resize(prompt_len - window);
  for (int32_t position = prompt_len - window; position < prompt_len; ++position) {
    for (int32_t idx = 0; idx < data.shape.group; ++idx) {
      const float* q = queries.data() + position * data.width() +
                       int64_t{head * data.shape.group + idx} * data.shape.head_dim;
      std::vector<double> s;
      for (int32_t key = 0; key <= position; ++key) {
        const Dot one = dot(data, q, 0, head, key, round_q);
        s.push_back(one.value);
        out.norm = std::max(out.norm, one.norm);
      }
      const std::vector<double> p = softmax(s);
      for (size_t key = 0; key < out.scores.size(); ++key) out.scores[key] += p[key];
    }
  }
  return out;
}

template <class T>
std::vector<T> max_pool(const std::vector<T>& in, int32_t kernel) {
  std::vector<T> out(in);
  const auto n = static_cast<int64_t>(in.size());
  for (int64_t at = 0; at < n; ++at) {
    for (int64_t off = -(kernel / 2); off <= kernel / 2; ++off) {
      if (at + off >= 0 && at + off < n) out[at] = std::max(out[at], in[at + off]);
    }
  }
  return out;
}
template std::vector<float> max_pool(const std::vector<float>&, int32_t);
template std::vector<double> max_pool(const std::vector<double>&, int32_t);

template <class T>
std::vector<int32_t> top(const std::vector<T>& values, int64_t k) {
  std::vector<int32_t> order(values.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int32_t a, int32_t b) { return values[a] > values[b]; });
  order.resize(k);
  std::sort(order.begin(), order.end());
  return order;
}
template std::vector<int32_t> top(const std::vector<float>&, int64_t);
template std::vector<int32_t> top(const std::vector<double>&, int64_t);

double bound_value(BoundFormat format, const std::byte* p) {
  if (format == BoundFormat::kBf16) {
    uint16_t bits = 0;
    std::memcpy(&bits, p, 2);
    return bf16_to_float(bits);
  }
  const auto bits = static_cast<int>(*p);  // sign, 5 bits of exponent (bias 15), 2 of fraction
  const int exponent = bits >> 2 & 31;
  const double sign = (bits & 0x80) != 0 ? -1 : 1;
  if (exponent == 31) return (bits & 3) != 0 ? std::nan("") : sign * HUGE_VAL;
  if (exponent == 0) return sign * std::ldexp(bits & 3, -16);
  return sign * std::ldexp(4 + (bits & 3), exponent - 17);
}

double bound_at(const Case& data, int32_t seq, int32_t head, int32_t side, int32_t channel,
                int32_t page) {
  const int32_t per_page = data.kv.page_size / data.shape.page_size;
  const int64_t row = (int64_t{head} * 2 + side) * data.shape.head_dim + channel;
  const int64_t at = row * per_page + page % per_page;
  const std::byte* base =
      data.bounds.data + data.seqs[seq].pages[page / per_page] * data.bounds.bytes_per_page;
  return bound_value(data.shape.format, base + at * kernels::cpu::bound_bytes(data.shape.format));
}

/// What a level with bf16 dot products makes of it, from sums that are exact in float32.
static double rounded_coef(float q, float scale, double all, double kept) {
  const float left_out =
      kept > 0 ? std::sqrt(static_cast<float>(all) / static_cast<float>(kept)) : 1.0F;
  return bf16_to_float(float_to_bf16(q * (scale * std::numbers::log2e_v<float> * left_out)));
}

PageRanks page_ranks(const Case& data, int32_t seq, int32_t head, int32_t num_channels,
                     std::vector<int32_t> pages, bool max_over_group, bool round_q) {
  const int32_t dim = data.shape.head_dim;
  const int32_t group = data.shape.group;
  const float* q = data.q.data() + seq * data.width() + int64_t{head} * group * dim;
  std::vector<double> importance(dim);
  std::vector<double> sums(dim);
  for (int32_t row = 0; row < group; ++row) {
    for (int32_t ch = 0; ch < dim; ++ch) {
      importance[ch] += std::abs(q[row * dim + ch]);
      sums[ch] += q[row * dim + ch];
    }
  }
  const std::vector<int32_t> channels = top(importance, num_channels);
  if (pages.empty()) {
    pages.resize(ceil_div(data.seqs[seq].kv_len, data.shape.page_size));
    std::iota(pages.begin(), pages.end(), 0);
  }
  PageRanks out;
  out.ranks.resize(pages.size());
  for (int32_t row = 0; row < group; ++row) {
    double all = 0;
    double kept = 0;
    for (int32_t ch = 0; ch < dim; ++ch) all += std::abs(q[row * dim + ch]);
    for (const int32_t ch : channels) kept += std::abs(q[row * dim + ch]);
    const double temperature = std::sqrt(dim * (kept > 0 ? kept / all : 1));
    std::vector<double> coefs(dim);
    for (const int32_t ch : channels) {
      coefs[ch] = q[row * dim + ch] / temperature * std::numbers::log2e;
      if (round_q) coefs[ch] = rounded_coef(q[row * dim + ch], data.scale(), all, kept);
    }
    std::vector<double> s;
    for (const int32_t page : pages) {
      double score = 0;
      double norm = 0;
      for (const int32_t ch : channels) {
        const double product =
            coefs[ch] * bound_at(data, seq, head, sums[ch] > 0 ? 1 : 0, ch, page);
        score += product;
        norm += std::abs(product);
      }
      s.push_back(score);
      out.norm = std::max(out.norm, norm);
    }
    const std::vector<double> p = softmax(s);
    for (size_t at = 0; at < pages.size(); ++at) {
      out.ranks[at] = max_over_group ? std::max(out.ranks[at], p[at]) : out.ranks[at] + p[at];
    }
  }
  return out;
}

Attention attention(const Case& data, int32_t seq, int32_t query_head,
                    const std::vector<int32_t>& tokens, bool round_q) {
  const int32_t dim = data.shape.head_dim;
  const int32_t head = query_head / data.shape.group;
  const float* q = data.q.data() + seq * data.width() + int64_t{query_head} * dim;
  Attention out{.out = std::vector<double>(dim), .magnitude = std::vector<double>(dim)};
  std::vector<double> s;
  for (const int32_t token : tokens) {
    const Dot one = dot(data, q, seq, head, token, round_q);
    s.push_back(one.value);
    out.norm = std::max(out.norm, one.norm);
  }
  const std::vector<double> p = softmax(s);
  for (size_t at = 0; at < tokens.size(); ++at) {
    for (int32_t ch = 0; ch < dim; ++ch) {
      const double value = cache(data, false, seq, head, tokens[at], ch);
      out.out[ch] += p[at] * value;
      out.magnitude[ch] += p[at] * std::abs(value);
    }
  }
  return out;
}

}  // namespace foveal::attention::rocket::reference

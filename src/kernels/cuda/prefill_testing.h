#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>

#include "kernels/cuda/attention.h"
#include "kernels/cuda/dense_cuda_testing.h"
#include "kernels/cuda/prefill.h"
#include "kernels/cuda/sm90/prefill_args.h"

namespace foveal::kernels::cuda::testing {

inline constexpr double kLog2E = 1.4426950408889634;
inline constexpr int32_t kVoteRows = 64;

struct PrefillCase {
  std::vector<std::pair<int32_t, int32_t>> seqs;  ///< queries, keys
  int32_t heads = 4;
  int32_t kv_heads = 2;
  int32_t head_dim = 128;
  int32_t page_size = 64;  ///< 0: contiguous
  bool token_major = false;
  bool f16 = false;
  bool e4m3_cache = false;
  bool e4m3_queries = false;  ///< with e4m3_cache only
  int32_t window = 0;
  float q_spread = 1;
  float skip_factor = 0;
  bool int8_votes = false;
};

struct Truth {
  std::vector<double> out, magnitude;                       ///< [rows, heads, head_dim]
  std::vector<double> squares;                              ///< likewise: of the terms of a sum
  std::vector<double> lse, peak;                            ///< [rows, heads]; largest weight
  std::vector<uint64_t> counters;                           ///< [seqs, 4]
  double margin = std::numeric_limits<double>::infinity();  ///< of the closest vote, log2
};

/// One call: inputs as the kernel sees them, its outputs, and the definition in double precision.
class PrefillTest : public CudaTest {
 protected:
  void make(const PrefillCase& given) {
    what = given;
    cu_q.assign(1, 0);
    cu_k.assign(1, 0);
    for (const auto& [queries, keys] : what.seqs) {
      cu_q.push_back(cu_q.back() + queries);
      cu_k.push_back(cu_k.back() + keys);
    }
    const auto values = [&](int64_t rows, int32_t heads, float spread) {
      return normal(static_cast<size_t>(rows * heads * what.head_dim), spread);
    };
    q = stored(values(cu_q.back(), what.heads, what.q_spread / q_scale()), what.e4m3_queries);
    k = stored(values(cu_k.back(), what.kv_heads, 1 / k_scale()), what.e4m3_cache);
    v = stored(values(cu_k.back(), what.kv_heads, 1 / v_scale()), what.e4m3_cache);
    if (what.skip_factor > 0) fade_keys();
  }

  /// Runs of keys of different size, so that some tiles matter and some do not.
  void fade_keys() {
    const size_t row = static_cast<size_t>(what.kv_heads) * static_cast<size_t>(what.head_dim);
    std::uniform_real_distribution<float> size(0, 1.5F);
    for (size_t begin = 0; begin < k.size(); begin += 100 * row) {
      const float factor = size(rng_);
      for (size_t i = begin; i < std::min(k.size(), begin + 100 * row); ++i) k[i] *= factor;
    }
    k = stored(k, what.e4m3_cache);
  }

  float q_scale() const { return what.e4m3_queries ? 0.6F : 1.0F; }
  float k_scale() const { return what.e4m3_cache ? 0.3F : 1.0F; }
  float v_scale() const { return what.e4m3_cache ? 0.07F : 1.0F; }

  std::vector<float> stored(std::vector<float> values, bool e4m3) const {
    for (float& x : values) x = e4m3 ? e4m3_to_float(float_to_e4m3(x)) : decode(encode(x));
    return values;
  }
  uint16_t encode(float x) const { return what.f16 ? float_to_f16(x) : float_to_bf16(x); }
  float decode(uint16_t x) const { return what.f16 ? f16_to_float(x) : bf16_to_float(x); }
  std::vector<uint8_t> encoded(const std::vector<float>& values, bool e4m3) const {
    std::vector<uint8_t> out;
    for (const float x : values) {
      const uint16_t bits = e4m3 ? float_to_e4m3(x) : encode(x);
      out.push_back(static_cast<uint8_t>(bits));
      if (!e4m3) out.push_back(static_cast<uint8_t>(bits >> 8));
    }
    return out;
  }

  // --- the definition ---

  size_t q_at(int64_t row, int32_t head) const {
    return static_cast<size_t>((row * what.heads + head) * what.head_dim);
  }
  size_t k_at(int64_t row, int32_t head) const {
    return static_cast<size_t>((row * what.kv_heads + head) * what.head_dim);
  }

  /// Scores of one row in the log2 domain; -inf where it does not see the key.
  std::vector<double> scores(size_t seq, int32_t row, int32_t head) const {
    const auto [queries, keys] = what.seqs[seq];
    const int32_t position = keys - queries + row;
    std::vector<double> out(static_cast<size_t>(keys), -std::numeric_limits<double>::infinity());
    const int32_t first = what.window > 0 ? std::max(0, position - what.window + 1) : 0;
    const float* query = &q[q_at(cu_q[seq] + row, head)];
    for (int32_t key = first; key <= position; ++key) {
      const float* other = &k[k_at(cu_k[seq] + key, head / (what.heads / what.kv_heads))];
      double sum = 0;
      for (int32_t i = 0; i < what.head_dim; ++i) sum += double{query[i]} * double{other[i]};
      out[static_cast<size_t>(key)] = sum * scale() * kLog2E;
    }
    return out;
  }

  /// Drops tiles from 64 rows' scores as BLASST says.
  virtual void vote(size_t seq, int32_t unit, int32_t /*head*/,
                    std::vector<std::vector<double>>& unit_scores, Truth& truth) const {
    const auto [queries, keys] = what.seqs[seq];
    if (!(what.skip_factor > 0 && what.skip_factor < static_cast<float>(keys))) return;
    const double threshold = std::log2(double{what.skip_factor} / keys);
    const int32_t tile_keys = prefill_tiling(params()).keys;
    const int32_t block_rows =
        kVoteRows * (what.e4m3_queries ? foveal::cuda::e4m3_warpgroups(what.head_dim)
                                       : foveal::cuda::prefill_warpgroups(what.head_dim, true));
    const int32_t block = unit * kVoteRows / block_rows * block_rows;
    const int32_t position = keys - queries + block;
    const int32_t first = what.window > 0 ? std::max(0, position - what.window + 1) : 0;
    const int32_t end = position + std::min(block_rows, queries - block);
    std::vector<double> kept(unit_scores.size(), -std::numeric_limits<double>::infinity());
    uint64_t* counters = &truth.counters[seq * 4];
    for (int32_t tile = first / tile_keys; tile * tile_keys < end; ++tile) {
      uint64_t pairs = 0;
      double closest = -std::numeric_limits<double>::infinity();
      std::vector<double> tops;
      for (size_t r = 0; r < unit_scores.size(); ++r) {
        double top = -std::numeric_limits<double>::infinity();
        for (int32_t key = tile * tile_keys; key < std::min(keys, (tile + 1) * tile_keys); ++key) {
          const double score = unit_scores[r][static_cast<size_t>(key)];
          if (score > -1e300) ++pairs;
          top = std::max(top, score);
        }
        tops.push_back(top);
        if (top > -1e300) closest = std::max(closest, top - kept[r] - threshold);
      }
      const bool exempt = tile == first / tile_keys;
      const bool drop = !exempt && !(closest >= 0);
      if (!exempt && std::isfinite(closest)) {
        truth.margin = std::min(truth.margin, std::fabs(closest));
      }
      if (pairs > 0) {
        counters[0] += pairs;
        counters[2] += 1;
        counters[drop ? 3 : 1] += drop ? 1 : pairs;
      }
      if (drop) drop_tile(unit_scores, tile, tile_keys);
      for (size_t r = 0; r < unit_scores.size() && !drop; ++r) {
        kept[r] = std::max(kept[r], tops[r]);
      }
    }
  }

  static void drop_tile(std::vector<std::vector<double>>& unit_scores, int32_t tile,
                        int32_t tile_keys) {
    for (std::vector<double>& row : unit_scores) {
      const size_t begin = static_cast<size_t>(tile) * static_cast<size_t>(tile_keys);
      const size_t end = std::min(row.size(), begin + static_cast<size_t>(tile_keys));
      std::fill(row.begin() + static_cast<ptrdiff_t>(begin),
                row.begin() + static_cast<ptrdiff_t>(end),
                -std::numeric_limits<double>::infinity());
    }
  }

  Truth truth() const {
    Truth out;
    const auto rows = static_cast<size_t>(cu_q.back());
    const auto heads = static_cast<size_t>(what.heads);
    out.out.assign(rows * heads * static_cast<size_t>(what.head_dim), 0);
    out.magnitude = out.squares = out.out;
    out.lse.assign(rows * heads, -std::numeric_limits<double>::infinity());
    out.peak.assign(rows * heads, 0);
    out.counters.assign(what.seqs.size() * 4, 0);
    for (size_t seq = 0; seq < what.seqs.size(); ++seq) {
      for (int32_t head = 0; head < what.heads; ++head) {
        for (int32_t first = 0; first < what.seqs[seq].first; first += kVoteRows) {
          unit_truth(seq, head, first, out);
        }
      }
    }
    return out;
  }

  void unit_truth(size_t seq, int32_t head, int32_t first, Truth& out) const {
    std::vector<std::vector<double>> unit;
    for (int32_t r = first; r < std::min(first + kVoteRows, what.seqs[seq].first); ++r) {
      unit.push_back(scores(seq, r, head));
    }
    vote(seq, first / kVoteRows, head, unit, out);
    for (size_t r = 0; r < unit.size(); ++r) {
      const int64_t row = cu_q[seq] + first + static_cast<int64_t>(r);
      const double top = *std::max_element(unit[r].begin(), unit[r].end());
      if (std::isinf(top)) continue;  // nothing is left: zeros, and -inf
      double sum = 0;
      for (const double score : unit[r]) sum += std::exp2(score - top);
      out.lse[static_cast<size_t>(row * what.heads + head)] = (top + std::log2(sum)) / kLog2E;
      out.peak[static_cast<size_t>(row * what.heads + head)] = 1 / sum;
      const size_t at = q_at(row, head);
      for (size_t key = 0; key < unit[r].size(); ++key) {
        const double weight = std::exp2(unit[r][key] - top) / sum;
        if (weight == 0) continue;
        const float* value =
            &v[k_at(cu_k[seq] + static_cast<int64_t>(key), head / (what.heads / what.kv_heads))];
        for (int32_t i = 0; i < what.head_dim; ++i) {
          const double term = weight * double{value[i]} * double{v_scale()};
          out.out[at + static_cast<size_t>(i)] += term;
          out.magnitude[at + static_cast<size_t>(i)] += std::fabs(term);
          out.squares[at + static_cast<size_t>(i)] += term * term;
        }
      }
    }
  }

  // --- the call ---

  float softmax_scale() const { return 1.0F / std::sqrt(static_cast<float>(what.head_dim)); }
  double scale() const { return double{softmax_scale()} * double{q_scale()} * double{k_scale()}; }

  /// Pages in a shuffled order among others full of large values; `table` gets their ids.
  std::vector<float> paged(const std::vector<float>& rows, std::vector<int32_t>& table) const {
    const int64_t page = what.page_size;
    const int64_t row = int64_t{what.kv_heads} * what.head_dim;
    std::vector<float> out(static_cast<size_t>(num_pages() * page * row), 3.0F);
    std::vector<int32_t> order(static_cast<size_t>(num_pages()));
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), std::mt19937(7));
    size_t next = 0;
    table.assign(what.seqs.size() * static_cast<size_t>(table_stride()), -7);
    for (size_t seq = 0; seq < what.seqs.size(); ++seq) {
      for (int64_t key = 0; key < what.seqs[seq].second; ++key) {
        if (key % page == 0) {
          table[seq * static_cast<size_t>(table_stride()) + static_cast<size_t>(key / page)] =
              order[next++];
        }
        const int64_t id = order[next - 1];
        for (int64_t head = 0; head < what.kv_heads; ++head) {
          const int64_t slot = what.token_major ? (id * page + key % page) * what.kv_heads + head
                                                : (id * what.kv_heads + head) * page + key % page;
          std::copy_n(&rows[k_at(cu_k[seq] + key, static_cast<int32_t>(head))], what.head_dim,
                      &out[static_cast<size_t>(slot * what.head_dim)]);
        }
      }
    }
    return out;
  }
  int64_t num_pages() const {
    int64_t pages = 3;
    for (const auto& seq : what.seqs) pages += (seq.second + what.page_size - 1) / what.page_size;
    return pages;
  }
  int64_t table_stride() const { return (longest() + what.page_size - 1) / what.page_size + 1; }
  int32_t longest() const {
    int32_t keys = 0;
    for (const auto& seq : what.seqs) keys = std::max(keys, seq.second);
    return keys;
  }

  foveal_attention_params params() const {
    foveal_attention_params p{};
    p.struct_size = sizeof(p);
    p.q_dtype = what.e4m3_queries ? FOVEAL_E4M3 : what.f16 ? FOVEAL_F16 : FOVEAL_BF16;
    p.kv_dtype = what.e4m3_cache ? FOVEAL_E4M3 : p.q_dtype;
    p.q_row_stride = p.out_row_stride = int64_t{what.heads} * what.head_dim;
    p.q_head_stride = p.out_head_stride = what.head_dim;
    const int64_t page = std::max(what.page_size, 1);
    const bool rows_first = what.token_major || what.page_size == 0;
    p.k_head_stride = p.v_head_stride = what.head_dim * (rows_first ? 1 : page);
    p.k_token_stride = p.v_token_stride = what.head_dim * (rows_first ? what.kv_heads : 1);
    p.k_page_stride = p.v_page_stride = page * what.kv_heads * what.head_dim;
    p.num_seqs = static_cast<int32_t>(what.seqs.size());
    p.num_rows = cu_q.back();
    p.num_heads = what.heads;
    p.num_kv_heads = what.kv_heads;
    p.head_dim = what.head_dim;
    p.page_size = what.page_size;
    p.num_pages = what.page_size > 0 ? static_cast<int32_t>(num_pages()) : cu_k.back();
    for (const auto& seq : what.seqs) p.max_q_len = std::max(p.max_q_len, seq.first);
    p.max_kv_len = longest();
    p.total_kv_len = cu_k.back();
    p.page_table_stride = what.page_size > 0 ? table_stride() : 0;
    p.softmax_scale = softmax_scale();
    p.window = what.window;
    p.q_scale = q_scale();
    p.k_scale = k_scale();
    p.v_scale = v_scale();
    p.skip_factor = what.skip_factor;
    if (what.int8_votes) p.flags = FOVEAL_ATTENTION_INT8_VOTES;
    return p;
  }

  struct Result {
    std::vector<uint16_t> out;
    std::vector<float> lse;
    std::vector<uint64_t> counters;
  };

  virtual void call(const foveal_attention_params& p) { attention_prefill(p, stream_.native()); }

  /// Calls twice, which must give the same; counters are added to twice.
  Result run(size_t workspace_bytes) {
    foveal_attention_params p = params();
    std::vector<int32_t> table, lengths;
    for (const auto& seq : what.seqs) lengths.push_back(seq.second);
    const bool pages = what.page_size > 0;
    const auto k_device = upload(encoded(pages ? paged(k, table) : k, what.e4m3_cache));
    const auto v_device = upload(encoded(pages ? paged(v, table) : v, what.e4m3_cache));
    const auto q_device = upload(encoded(q, what.e4m3_queries));
    const auto table_device = upload(table);
    const auto lengths_device = upload(lengths);
    const auto cu_q_device = upload(cu_q);
    const auto cu_k_device = upload(cu_k);
    const auto counters = upload(std::vector<uint64_t>(what.seqs.size() * 4));
    // What is not the counter may hold anything, NaN too.
    std::vector<uint8_t> used(workspace_bytes, 0xff);
    std::fill_n(used.begin(), kPrefillCounterBytes, uint8_t{0});
    const auto workspace = upload(used);
    const DeviceArray<uint16_t> out(stream_, q.size());
    const DeviceArray<float> lse(stream_, q.size() / static_cast<size_t>(what.head_dim));
    p.q = q_device.data();
    p.k = k_device.data();
    p.v = v_device.data();
    p.out = out.data();
    p.lse = lse.data();
    p.cu_q = cu_q_device.data();
    p.cu_k = cu_k_device.data();
    p.kv_len = lengths_device.data();
    p.page_table = pages ? table_device.data() : nullptr;
    p.counters = what.skip_factor > 0 ? counters.data() : nullptr;
    p.workspace = workspace.data();
    p.workspace_bytes = workspace_bytes;
    call(p);
    const std::vector<uint16_t> first = out.download();
    call(p);
    EXPECT_EQ(first, out.download()) << "two runs differ";
    left_in_workspace = workspace.download();
    return {first, lse.download(), counters.download()};
  }

  void expect_right() { expect_right(prefill_workspace_bytes(params())); }
  void expect_right(size_t workspace_bytes) {
    const Truth want = truth();
    const Result got = run(workspace_bytes);
    if (what.e4m3_queries) {
      compare_e4m3(want, got.out, got.lse);
    } else {
      compare(want, got.out, got.lse);
    }
    std::vector<uint64_t> counted = want.counters;
    for (uint64_t& count : counted) count *= 2;
    if (what.skip_factor > 0) {
      EXPECT_EQ(got.counters, counted);
    }
  }

  /// Probabilities and the output are rounded once each; scores, exponentials and sums in float32.
  void compare(const Truth& want, const std::vector<uint16_t>& got,
               const std::vector<float>& lse) const {
    const double half = what.f16 ? kF16Half : kBf16Half;
    for (size_t i = 0; i < got.size(); ++i) {
      const double bound = 1.05 * half * (want.magnitude[i] + std::fabs(want.out[i])) +
                           0x1p-16 * want.magnitude[i] + 1e-6;
      ASSERT_NEAR(decode(got[i]), want.out[i], bound) << "element " << i;
    }
    for (size_t i = 0; i < lse.size(); ++i) {
      if (std::isinf(want.lse[i])) {
        ASSERT_EQ(lse[i], want.lse[i]) << "row " << i;
      } else {
        ASSERT_NEAR(lse[i], want.lse[i], 2e-5 * std::max(1.0, std::fabs(want.lse[i])))
            << "row " << i;
      }
    }
  }

  /// The tensor cores cut a sum of e4m3 products after 13 bits, 32 channels a step: a score is off
  /// by that much of the sum of |q k|, here at most 1.5 standard deviations a channel.
  double score_error() const {
    const double dim = what.head_dim;
    return dim / 32 * 0x1p-13 * 1.5 * dim * double{what.q_spread} * double{softmax_scale()};
  }
  /// Probabilities are rounded to 4 bits, those below 2^-13 of the largest to multiples of 2^-16 of
  /// it, each for itself: six standard deviations of what that does to the sum and to its divisor
  /// (squares of weights sum to no more than the largest). Products are cut 13 bits below a sum
  /// that is a quarter of 768 like them in the mean: of equal ones at most 2^-8 is lost. The output
  /// is rounded.
  void compare_e4m3(const Truth& want, const std::vector<uint16_t>& got,
                    const std::vector<float>& lse) const {
    const double sigmas = 6 / std::sqrt(3.0);
    const double least = 0x1p-17 * 1.5 * std::sqrt(static_cast<double>(longest()));
    const auto row_of = [&](size_t i) { return i / static_cast<size_t>(what.head_dim); };
    for (size_t i = 0; i < got.size(); ++i) {
      const double peak = want.peak[row_of(i)];
      const double noise = std::sqrt(want.squares[i]) + std::fabs(want.out[i]) * std::sqrt(peak);
      const double bound = sigmas * (kE4m3Half * noise + least * peak) +
                           (2 * score_error() + 0x1p-8) * want.magnitude[i] +
                           kBf16Half * std::fabs(want.out[i]) + 1e-6;
      ASSERT_NEAR(bf16_to_float(got[i]), want.out[i], bound) << "element " << i;
    }
    for (size_t i = 0; i < lse.size(); ++i) {
      if (std::isinf(want.lse[i])) {
        ASSERT_EQ(lse[i], want.lse[i]);
      } else {
        const double bound =
            score_error() + sigmas * kE4m3Half * std::sqrt(want.peak[i]) + 0x1p-8 + 1e-4;
        ASSERT_NEAR(lse[i], want.lse[i], bound) << "row " << i;
      }
    }
  }

  /// As expect_right, on inputs whose votes rounding cannot turn.
  void expect_right_votes(const PrefillCase& given) {
    for (int attempt = 0; attempt < 200; ++attempt) {
      make(given);
      const double safe = what.e4m3_queries ? 2 * score_error() * kLog2E : 1e-3;
      if (truth().margin > safe) return expect_right();
    }
    FAIL() << "no inputs with clear votes";
  }

  PrefillCase what;
  std::vector<int32_t> cu_q, cu_k;
  std::vector<float> q, k, v;  ///< as stored; [rows, heads, head_dim]
  std::vector<uint8_t> left_in_workspace;
};

}  // namespace foveal::kernels::cuda::testing

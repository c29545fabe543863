#include "kernels/reference/attention.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numbers>

#include "base/half.h"

namespace foveal::kernels::reference {
namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();

/// Scores of one row and head against keys [0, kv_len), -inf where masked.
struct Row {
  int32_t row = 0;  ///< in q and out
  int32_t head = 0;
  int32_t position = 0;
  std::vector<double> scores;
  double running = -kInf;  ///< maximum that votes compare with; before a vote, where it starts
};

class Attention {
 public:
  Attention(const PagedAttentionParams& params, AttentionPhase phase, bool round_q)
      : p_(params),
        phase_(phase),
        round_q_(round_q),
        group_(params.num_heads / params.kv.num_kv_heads) {
    int32_t rows = 0;
    for (const AttentionSeq& seq : p_.seqs) rows = std::max(rows, seq.q_begin + seq.q_len);
    const size_t pairs = static_cast<size_t>(rows) * p_.num_heads;
    result_.out.resize(pairs * p_.kv.head_dim);
    result_.magnitude.resize(pairs * p_.kv.head_dim);
    result_.score_norm.resize(pairs);
    result_.counters.resize(p_.seqs.size());
  }

  AttentionResult run() {
    for (size_t idx = 0; idx < p_.seqs.size(); ++idx) {
      const AttentionSeq& seq = p_.seqs[idx];
      const int32_t first = seq.kv_len - seq.q_len;
      if (phase_ == AttentionPhase::kDecode) {
        for (int32_t head = 0; head < p_.kv.num_kv_heads; ++head) decode(idx, head);
        continue;
      }
      for (int32_t tile = first / kQueryTile; tile * kQueryTile < seq.kv_len; ++tile) {
        for (int32_t head = 0; head < p_.num_heads; ++head) prefill(idx, tile, head);
      }
    }
    return std::move(result_);
  }

 private:
  int32_t page_of(const AttentionSeq& seq, int32_t key) const {
    return seq.pages[key / p_.kv.page_size];
  }

  Row score(const AttentionSeq& seq, int32_t position, int32_t head) {
    Row row;
    row.row = seq.q_begin + position - (seq.kv_len - seq.q_len);
    row.head = head;
    row.position = position;
    row.scores.assign(seq.kv_len, -kInf);
    const int32_t head_dim = p_.kv.head_dim;
    const float* q = p_.q + row.row * p_.q_stride + static_cast<int64_t>(head) * head_dim;
    const float scale = p_.softmax_scale * std::numbers::log2e_v<float>;
    const int32_t begin = p_.window > 0 ? std::max(0, position - p_.window + 1) : 0;
    for (int32_t key = begin; key <= position; ++key) {
      double dot = 0;
      double norm = 0;
      for (int32_t ch = 0; ch < head_dim; ++ch) {
        const float scaled = q[ch] * scale;
        const double coef = round_q_ ? bf16_to_float(float_to_bf16(scaled)) : scaled;
        const double product = coef * cache_value(p_.kv, true, page_of(seq, key), head / group_,
                                                  key % p_.kv.page_size, ch);
        dot += product;
        norm += std::abs(product);
      }
      row.scores[key] = dot;
      double& largest = result_.score_norm[row.row * p_.num_heads + head];
      largest = std::max(largest, norm);
    }
    return row;
  }

  /// Votes on the tiles of keys [begin, end) for rows that agree together; drops by masking.
  void vote(size_t idx, TileVote vote, std::vector<Row>& rows, int32_t begin, int32_t end) {
    const AttentionSeq& seq = p_.seqs[idx];
    float factor = p_.skip_factor;
    if (factor > 0 && seq.own_skip_factor >= 0) factor = seq.own_skip_factor;
    const bool on = factor > 0 && factor < static_cast<float>(seq.threshold_len);
    const double threshold = on ? std::log2(static_cast<double>(factor) / seq.threshold_len) : 0;
    AttentionCounters& counters = result_.counters[idx];
    for (int32_t tile = begin / kKeyTile; tile * kKeyTile < end; ++tile) {
      double change = -kInf;
      uint64_t pairs = 0;
      std::vector<double> tops;
      for (const Row& row : rows) {
        double top = -kInf;
        for (int32_t key = std::max(begin, tile * kKeyTile);
             key < std::min(end, (tile + 1) * kKeyTile); ++key) {
          top = std::max(top, row.scores[key]);
          pairs += row.scores[key] > -kInf ? 1 : 0;
        }
        if (top > -kInf) change = std::max(change, top - row.running);
        tops.push_back(top);
      }
      if (pairs == 0) continue;
      const bool exempt = (phase_ == AttentionPhase::kPrefill && tile == begin / kKeyTile) || !on;
      vote.key_tile = tile;
      vote.dropped = !exempt && change < threshold;
      vote.margin = exempt ? kInf : std::abs(change - threshold);
      result_.votes.push_back(vote);
      counters.add({.pairs = pairs,
                    .pairs_used = vote.dropped ? 0 : pairs,
                    .tiles = 1,
                    .tiles_skipped = vote.dropped ? 1U : 0U});
      for (size_t at = 0; at < rows.size(); ++at) {
        if (!vote.dropped) {
          rows[at].running = std::max(rows[at].running, tops[at]);
          continue;
        }
        for (int32_t key = tile * kKeyTile; key < std::min(end, (tile + 1) * kKeyTile); ++key) {
          rows[at].scores[key] = -kInf;
        }
      }
    }
  }

  void finish(const AttentionSeq& seq, const Row& row) {
    const double top = *std::max_element(row.scores.begin(), row.scores.end());
    double sum = 0;
    const int64_t at = (static_cast<int64_t>(row.row) * p_.num_heads + row.head) * p_.kv.head_dim;
    for (int32_t key = 0; key < seq.kv_len; ++key) {
      if (row.scores[key] == -kInf) continue;
      const double weight = std::exp2(row.scores[key] - top);
      sum += weight;
      for (int32_t ch = 0; ch < p_.kv.head_dim; ++ch) {
        const double value = cache_value(p_.kv, false, page_of(seq, key), row.head / group_,
                                         key % p_.kv.page_size, ch);
        result_.out[at + ch] += weight * value;
        result_.magnitude[at + ch] += weight * std::abs(value);
      }
    }
    for (int32_t ch = 0; ch < p_.kv.head_dim; ++ch) {
      result_.out[at + ch] /= sum;
      result_.magnitude[at + ch] /= sum;
    }
  }

  void prefill(size_t idx, int32_t tile, int32_t head) {
    const AttentionSeq& seq = p_.seqs[idx];
    const int32_t begin = std::max(tile * kQueryTile, seq.kv_len - seq.q_len);
    const int32_t end = std::min((tile + 1) * kQueryTile, seq.kv_len);
    std::vector<Row> rows;
    for (int32_t position = begin; position < end; ++position) {
      rows.push_back(score(seq, position, head));
    }
    const int32_t first = p_.window > 0 ? std::max(0, tile * kQueryTile - p_.window + 1) : 0;
    vote(idx, {.seq = static_cast<int32_t>(idx), .head = head, .query_tile = tile, .key_tile = 0},
         rows, first, seq.kv_len);
    for (const Row& row : rows) finish(seq, row);
  }

  /// Each row's largest score in its first and last keys.
  static std::vector<double> seeds_of(const std::vector<Row>& rows, int32_t begin, int32_t end) {
    const int32_t first_end = (begin / kSeedKeys + kSeedRuns) * kSeedKeys;
    const int32_t last_begin = ((end + kSeedKeys - 1) / kSeedKeys - kSeedRuns) * kSeedKeys;
    std::vector<double> seeds;
    for (const Row& row : rows) {
      double top = -kInf;
      for (int32_t key = begin; key < end; ++key) {
        if (key < first_end || key >= last_begin) top = std::max(top, row.scores[key]);
      }
      seeds.push_back(top);
    }
    return seeds;
  }

  void decode(size_t idx, int32_t kv_head) {
    const AttentionSeq& seq = p_.seqs[idx];
    const int32_t position = seq.kv_len - 1;
    std::vector<Row> rows;
    for (int32_t head = kv_head * group_; head < (kv_head + 1) * group_; ++head) {
      rows.push_back(score(seq, position, head));
    }
    int32_t begin = p_.window > 0 ? std::max(0, position - p_.window + 1) : 0;
    const std::vector<double> seeds = seeds_of(rows, begin, seq.kv_len);
    while (begin < seq.kv_len) {
      const int32_t end = std::min(seq.kv_len, (begin / kDecodeSplit + 1) * kDecodeSplit);
      for (size_t at = 0; at < rows.size(); ++at) rows[at].running = seeds[at];
      vote(idx, {.seq = static_cast<int32_t>(idx), .head = kv_head}, rows, begin, end);
      begin = end;
    }
    for (const Row& row : rows) finish(seq, row);
  }

  const PagedAttentionParams& p_;
  AttentionPhase phase_;
  bool round_q_;
  int32_t group_;
  AttentionResult result_;
};

}  // namespace

double cache_value(const KvLayerView& kv, bool key, int32_t page, int32_t head, int32_t slot,
                   int32_t channel) {
  const int64_t pair = kv_pair(kv.dtype);
  int64_t at = static_cast<int64_t>(head) * kv.head_dim * kv.page_size;
  if (key) {
    at += (channel / pair * kv.page_size + slot) * pair + channel % pair;
  } else {
    at += (slot / pair * kv.head_dim + channel) * pair + slot % pair;
  }
  const std::byte* base = key ? kv.k_page(page) : kv.v_page(page);
  if (kv.dtype == DType::kF32) {
    float value = 0;
    std::memcpy(&value, base + at * 4, sizeof(value));
    return value;
  }
  uint16_t bits = 0;
  std::memcpy(&bits, base + at * 2, sizeof(bits));
  return kv.dtype == DType::kBF16 ? bf16_to_float(bits) : f16_to_float(bits);
}

AttentionResult attention(const PagedAttentionParams& params, AttentionPhase phase, bool round_q) {
  return Attention(params, phase, round_q).run();
}

}  // namespace foveal::kernels::reference

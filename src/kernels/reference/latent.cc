#include "kernels/reference/latent.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numbers>
#include <numeric>

#include "base/half.h"

namespace foveal::kernels::reference {
namespace {

/// One row's keys as doubles, [keys, head_dim].
std::vector<double> read_keys(const KvLayerView& kv, const AttentionSeq& seq,
                              const std::vector<int32_t>& keys) {
  std::vector<double> out;
  out.reserve(keys.size() * static_cast<size_t>(kv.head_dim));
  for (const int32_t key : keys) {
    for (int32_t ch = 0; ch < kv.head_dim; ++ch) {
      out.push_back(latent_value(kv, seq.pages[key / kv.page_size], key % kv.page_size, ch));
    }
  }
  return out;
}

void attend_row(const LatentAttentionParams& params, int64_t row, const std::vector<double>& keys,
                bool round_q, LatentResult& result) {
  const int32_t head_dim = params.kv.head_dim;
  const int32_t value_dim = params.kv.value_dim;
  const auto num_keys = static_cast<int64_t>(keys.size()) / head_dim;
  const float scale = params.softmax_scale * std::numbers::log2e_v<float>;
  for (int32_t head = 0; head < params.num_heads; ++head) {
    const float* q = params.q + row * params.q_stride + int64_t{head} * head_dim;
    const int64_t unit = row * params.num_heads + head;
    std::vector<double> scores;
    for (int64_t key = 0; key < num_keys; ++key) {
      double dot = 0;
      double norm = 0;
      for (int32_t ch = 0; ch < head_dim; ++ch) {
        const float scaled = q[ch] * scale;
        const double coef = round_q ? bf16_to_float(float_to_bf16(scaled)) : scaled;
        dot += coef * keys[key * head_dim + ch];
        norm += std::abs(coef * keys[key * head_dim + ch]);
      }
      scores.push_back(dot);
      result.score_norm[unit] = std::max(result.score_norm[unit], norm);
    }
    const double top = *std::max_element(scores.begin(), scores.end());
    double sum = 0;
    for (const double score : scores) sum += std::exp2(score - top);
    for (int64_t key = 0; key < num_keys; ++key) {
      const double weight = std::exp2(scores[key] - top) / sum;
      for (int32_t ch = 0; ch < value_dim; ++ch) {
        result.out[unit * value_dim + ch] += weight * keys[key * head_dim + ch];
        result.magnitude[unit * value_dim + ch] += weight * std::abs(keys[key * head_dim + ch]);
      }
    }
  }
}

}  // namespace

double latent_value(const KvLayerView& kv, int32_t page, int32_t slot, int32_t channel) {
  const int64_t at = int64_t{slot} * kv.head_dim + channel;
  if (kv.dtype == DType::kF32) {
    float value = 0;
    std::memcpy(&value, kv.k_page(page) + at * 4, sizeof(value));
    return value;
  }
  uint16_t bits = 0;
  std::memcpy(&bits, kv.k_page(page) + at * 2, sizeof(bits));
  return kv.dtype == DType::kBF16 ? bf16_to_float(bits) : f16_to_float(bits);
}

LatentResult latent_attention(const LatentAttentionParams& params, bool round_q) {
  int64_t rows = 0;
  for (const AttentionSeq& seq : params.seqs) {
    rows = std::max<int64_t>(rows, seq.q_begin + seq.q_len);
  }
  const auto units = static_cast<size_t>(rows * params.num_heads);
  const size_t values = units * static_cast<size_t>(params.kv.value_dim);
  LatentResult result{std::vector<double>(values), std::vector<double>(values),
                      std::vector<double>(units)};
  int64_t row = 0;
  for (const AttentionSeq& seq : params.seqs) {
    for (int32_t idx = 0; idx < seq.q_len; ++idx, ++row) {
      std::vector<int32_t> keys(static_cast<size_t>(seq.kv_len - seq.q_len + idx + 1));
      std::iota(keys.begin(), keys.end(), 0);
      if (params.sets != nullptr) {
        const int64_t* offsets = params.sets->offsets + row;
        keys.assign(params.sets->tokens + offsets[0], params.sets->tokens + offsets[1]);
      }
      attend_row(params, seq.q_begin + idx, read_keys(params.kv, seq, keys), round_q, result);
    }
  }
  return result;
}

}  // namespace foveal::kernels::reference

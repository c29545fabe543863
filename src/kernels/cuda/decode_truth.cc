#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/cuda/decode_choose.h"
#include "kernels/cuda/decode_testing.h"

// What a call of decode has to give, in double precision, votes of Skip Softmax and all.

namespace foveal::kernels::cuda::testing {

/// One KV head of one sequence: what its query heads see.
struct DecodeFixture::Row {
  int32_t seq = 0;
  int32_t head = 0;  ///< KV head times the passes
  int32_t kv_head = 0;
  int32_t group = 0;                        ///< query heads
  int32_t first = 0;                        ///< visible key
  std::vector<std::vector<double>> scores;  ///< [group][kv_len], -inf where not seen
  std::vector<double> norm;                 ///< [group]
  std::vector<bool> used;                   ///< [kv_len]
  uint64_t tiles = 0, skipped = 0;
  double margin = 1e9;
};

void DecodeFixture::score_row(Row& row) const {
  const int32_t d = what.head_dim;
  const int32_t length = what.lengths[row.seq];
  row.first = what.window > 0 ? std::max(0, length - what.window) : 0;
  row.used.assign(static_cast<size_t>(length), true);
  for (int32_t h = 0; h < row.group; ++h) {
    const size_t line = static_cast<size_t>(row.seq) * params_.num_heads + row.head * row.group + h;
    std::vector<double> scores(static_cast<size_t>(length),
                               -std::numeric_limits<double>::infinity());
    double norm = 0;
    for (int32_t i = row.first; i < length; ++i) {
      double sum = 0;
      double size = 0;
      for (int32_t c = 0; c < d; ++c) {
        const double product = query(line * d + c) * value(true, row.seq, row.kv_head, i, c);
        sum += product;
        size += std::fabs(product);
      }
      scores[i] = sum * params_.softmax_scale;
      norm = std::max(norm, size * params_.softmax_scale);
    }
    row.scores.push_back(std::move(scores));
    row.norm.push_back(norm);
  }
}

/// Where the splits of a row begin, by the arithmetic of decode_plan.h.
std::vector<int32_t> DecodeFixture::split_keys_of(int32_t seq, int32_t head) const {
  const DecodeChoice choice = decode_choose(params_, processors());
  const Divider units = Divider::of(static_cast<uint32_t>(choice.chunk_units));
  const auto heads = static_cast<uint32_t>(what.kv_heads * choice.passes);
  uint32_t before = 0;
  uint32_t total = 0;
  for (int32_t s = 0; s < params_.num_seqs; ++s) {
    const uint32_t chunks = decode_span(what.lengths[s], what.window, units).chunks;
    if (s < seq) before += chunks * heads;
    total += chunks * heads;
  }
  const DecodeSpan span = decode_span(what.lengths[seq], what.window, units);
  const DecodeDeal deal =
      decode_deal(total, choice.min_chunks_log2, static_cast<uint32_t>(choice.grid));
  const uint32_t start = before + static_cast<uint32_t>(head) * span.chunks;
  std::vector<int32_t> keys;
  for (uint32_t chunk = 0; chunk < span.chunks; ++chunk) {
    const bool begins = chunk == 0 || choice.max_splits > 0 ||
                        deal.run(start + chunk) != deal.run(start + chunk - 1);
    const auto unit = span.first_unit + static_cast<int32_t>(chunk * units.divisor);
    if (begins) keys.push_back(unit * kDecodeUnit);
  }
  return keys;
}

void DecodeFixture::vote_row(Row& row) const {
  const int32_t length = what.lengths[row.seq];
  std::vector<int32_t> splits = split_keys_of(row.seq, row.head);
  splits.push_back((length + kDecodeVoteKeys - 1) / kDecodeVoteKeys * kDecodeVoteKeys);
  const double factor = what.skip_factor;
  const double threshold = factor > 0 && factor < length ? std::log(factor / length) : -1e300;
  for (size_t split = 0; split + 1 < splits.size(); ++split) {
    std::vector<double> running = seeds(row);
    for (int32_t tile = splits[split]; tile < splits[split + 1]; tile += kDecodeVoteKeys) {
      const int32_t begin = std::max(tile, row.first);
      const int32_t end = std::min(tile + kDecodeVoteKeys, length);
      if (begin >= end) continue;
      ++row.tiles;
      std::vector<double> largest;
      double above = -std::numeric_limits<double>::infinity();  // the head that objects most
      for (int32_t h = 0; h < row.group; ++h) {
        largest.push_back(
            *std::max_element(row.scores[h].begin() + begin, row.scores[h].begin() + end));
        above = std::max(above, largest[h] - running[h] - threshold);
      }
      row.margin = std::min(row.margin, std::fabs(above));
      if (above < 0) {
        ++row.skipped;
        std::fill(row.used.begin() + begin, row.used.begin() + end, false);
        continue;
      }
      for (int32_t h = 0; h < row.group; ++h) running[h] = std::max(running[h], largest[h]);
    }
  }
}

/// What every split's running maxima begin with: those over the row's first and last keys.
std::vector<double> DecodeFixture::seeds(const Row& row) const {
  const int32_t length = what.lengths[row.seq];
  const int32_t units = DecodeShape{what.head_dim, 2, 1, true}.warps() / 2;
  const int32_t first_unit = row.first / kDecodeUnit;
  const int32_t end_unit = (length + kDecodeUnit - 1) / kDecodeUnit;
  std::vector<double> maxima;
  for (const std::vector<double>& scores : row.scores) {
    double largest = -std::numeric_limits<double>::infinity();
    for (int32_t i = row.first; i < length; ++i) {
      const int32_t unit = i / kDecodeUnit;
      const bool seed = unit < first_unit + units || unit >= end_unit - units;
      if (seed) largest = std::max(largest, scores[i]);
    }
    maxima.push_back(largest);
  }
  return maxima;
}

void DecodeFixture::truth_of(DecodeTruth& truth, Row& row) const {
  const int32_t d = what.head_dim;
  const int32_t length = what.lengths[row.seq];
  score_row(row);
  vote_row(row);
  for (int32_t h = 0; h < row.group; ++h) {
    const std::vector<double>& scores = row.scores[h];
    const size_t line = static_cast<size_t>(row.seq) * params_.num_heads + row.head * row.group + h;
    double max = -std::numeric_limits<double>::infinity();
    double total = 0;
    for (int32_t i = row.first; i < length; ++i) {
      if (row.used[i]) max = std::max(max, scores[i]);
    }
    for (int32_t i = row.first; i < length; ++i) {
      if (row.used[i]) total += std::exp(scores[i] - max);
    }
    for (int32_t i = row.first; i < length; ++i) {
      if (!row.used[i]) continue;
      const double weight = std::exp(scores[i] - max) / total;
      for (int32_t c = 0; c < d; ++c) {
        const double v = value(false, row.seq, row.kv_head, i, c);
        truth.out[line * d + c] += weight * v;
        truth.magnitude[line * d + c] += weight * std::fabs(v);
      }
    }
    truth.lse[line] = total > 0 ? max + std::log(total) : -std::numeric_limits<double>::infinity();
    truth.score_norm[line] = row.norm[h];
  }
}

DecodeTruth DecodeFixture::truth() const {
  const size_t lines = static_cast<size_t>(params_.num_seqs) * params_.num_heads;
  DecodeTruth truth;
  truth.out.assign(lines * what.head_dim, 0);
  truth.magnitude.assign(lines * what.head_dim, 0);
  truth.lse.assign(lines, 0);
  truth.score_norm.assign(lines, 0);
  truth.counters.assign(static_cast<size_t>(params_.num_seqs) * 4, 0);
  const int32_t passes = decode_passes(what.group, what.head_dim);
  const int32_t heads = what.kv_heads * passes;
  std::vector<Row> rows(static_cast<size_t>(params_.num_seqs) * heads);
  parallel(static_cast<int32_t>(rows.size()), [&](int32_t item) {
    rows[item].seq = item / heads;
    rows[item].head = item % heads;
    rows[item].kv_head = rows[item].head / passes;
    rows[item].group = what.group / passes;
    truth_of(truth, rows[item]);
    rows[item].scores.clear();
  });
  for (const Row& row : rows) {
    uint64_t* counters = &truth.counters[static_cast<size_t>(row.seq) * 4];
    const auto group = static_cast<uint64_t>(row.group);
    counters[0] += group * (row.used.size() - static_cast<size_t>(row.first));
    counters[1] += group * static_cast<uint64_t>(
                               std::count(row.used.begin() + row.first, row.used.end(), true));
    counters[2] += row.tiles;
    counters[3] += row.skipped;
    truth.margin = std::min(truth.margin, row.margin);
  }
  return truth;
}

double DecodeFixture::tolerance(const DecodeTruth& truth, size_t i) const {
  const double roundoff = what.q_dtype == FOVEAL_F16 ? std::ldexp(1, -11) : std::ldexp(1, -8);
  const double weight_roundoff =
      what.kv_dtype == FOVEAL_BF16 ? std::ldexp(1, -8) : std::ldexp(1, -11);
  // Scores: float32 sums of head_dim products and ex2.approx; an error e of a score moves weights
  // by e.
  const double score_error =
      truth.score_norm[i / what.head_dim] * std::ldexp(1, -21) + std::ldexp(1, -20);
  // Weights below 2^-24 of the reference are lost in f16: at most one such quantum a key.
  const double lost = what.kv_dtype == FOVEAL_BF16 ? 0 : std::ldexp(1, -17);
  return roundoff * std::fabs(truth.out[i]) +
         truth.magnitude[i] * (weight_roundoff + 2 * score_error + lost) + std::ldexp(1, -24);
}

std::string differences(const DecodeFixture& fixture, const DecodeOutput& got) {
  const DecodeTruth truth = fixture.truth();
  std::string text;
  int found = 0;
  double worst = 0;
  for (size_t i = 0; i < truth.out.size(); ++i) {
    const double error = std::fabs(got.out[i] - truth.out[i]);
    const double allowed = fixture.tolerance(truth, i);
    worst = std::max(worst, error / allowed);
    if (error <= allowed) continue;
    if (found++ < 4) {
      text += fmt::format("out[{}] (row {} head {} channel {}) got {} want {} +- {}\n", i,
                          i / fixture.what.head_dim / fixture.params().num_heads,
                          i / fixture.what.head_dim % fixture.params().num_heads,
                          i % fixture.what.head_dim, got.out[i], truth.out[i], allowed);
    }
  }
  for (size_t line = 0; line < truth.lse.size(); ++line) {
    const double want = truth.lse[line];
    const double allowed = truth.score_norm[line] * std::ldexp(1, -20) + 1e-5;
    if (std::isinf(want) ? got.lse[line] == want : std::fabs(got.lse[line] - want) <= allowed)
      continue;
    if (found++ < 8)
      text += fmt::format("lse[{}] got {} want {} +- {}\n", line, got.lse[line], want, allowed);
  }
  if (got.counters != truth.counters) {
    text += "counters differ\n";
    ++found;
  }
  if (truth.margin < 1e-5)
    text += fmt::format("a vote lies {} from its threshold: choose another seed\n", truth.margin);
  if (found > 0)
    text += fmt::format("{} differences in all, the worst {} times the tolerance\n", found, worst);
  return text;
}

}  // namespace foveal::kernels::cuda::testing

#include "kernels/attention_testing.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numbers>
#include <set>

#include "base/half.h"
#include "kernels/garbage_testing.h"
#include "kernels/paged_seqs_testing.h"

namespace foveal::kernels::testing {

AttentionCase::AttentionCase(const CaseShape& wanted, uint64_t seed, Stream& stream)
    : shape(wanted) {
  std::mt19937_64 rng(seed);
  std::normal_distribution<float> normal;
  PagedSeqs paged(shape.seqs, shape.page_size, rng);
  num_rows_ = paged.num_rows;
  kv.dtype = shape.dtype;
  kv.page_size = shape.page_size;
  kv.num_kv_heads = shape.num_kv_heads;
  kv.head_dim = shape.head_dim;
  kv.page_bytes = int64_t{shape.num_kv_heads} * shape.head_dim * shape.page_size *
                  (shape.dtype == DType::kF32 ? 4 : 2);
  k_bytes_.resize(kv.page_bytes * paged.num_pages);
  v_bytes_.resize(kv.page_bytes * paged.num_pages);
  std::mt19937_64 noise(seed + 1);
  if (shape.garbage) fill_garbage(k_bytes_, shape.dtype, noise);
  if (shape.garbage) fill_garbage(v_bytes_, shape.dtype, noise);
  kv.k = k_bytes_.data();
  kv.v = v_bytes_.data();

  seqs = std::move(paged.queries);
  pages_ = std::move(paged.pages);
  q.resize(num_rows_ * width());
  out.resize(q.size());
  const int64_t kv_width = int64_t{shape.num_kv_heads} * shape.head_dim;
  k_rows.resize(paged.num_keys * kv_width);
  v_rows.resize(k_rows.size());
  for (float& x : q) x = shape.spread * normal(rng) + 1;
  float level = 0;  // q's common part, 1 a channel, meets a level per tile and head
  const float unit = shape.tile_spread / std::sqrt(static_cast<float>(shape.head_dim));
  for (size_t at = 0; at < k_rows.size(); ++at) {
    if (at % (kKeyTile * shape.head_dim) == 0) level = unit * normal(rng);
    k_rows[at] = normal(rng) + level;
  }
  for (float& x : v_rows) x = normal(rng);
  counters.resize(seqs.size());
  kv_store({.k = k_rows.data(),
            .v = v_rows.data(),
            .k_stride = kv_width,
            .v_stride = kv_width,
            .kv = kv,
            .seqs = paged.stores},
           stream);
}

PagedAttentionParams AttentionCase::params() {
  return {.q = q.data(),
          .out = out.data(),
          .q_stride = width(),
          .out_stride = width(),
          .num_heads = shape.num_kv_heads * shape.group,
          .kv = kv,
          .seqs = seqs,
          .softmax_scale = 1.0F / std::sqrt(static_cast<float>(shape.head_dim)),
          .window = shape.window,
          .skip_factor = shape.skip_factor,
          .counters = counters.data(),
          .exact = shape.exact};
}

std::vector<float> run(AttentionCase& data, AttentionPhase phase, Stream& stream) {
  std::fill(data.out.begin(), data.out.end(), std::nanf(""));
  std::fill(data.counters.begin(), data.counters.end(), AttentionCounters{});
  if (phase == AttentionPhase::kPrefill) {
    paged_prefill(data.params(), stream);
  } else {
    paged_decode(data.params(), stream);
  }
  return data.out;
}

bool rounds(const AttentionCase& data) {
  return data.shape.dtype == DType::kBF16 && !data.shape.exact &&
         cpu::active_isa() == cpu::Isa::kAvx512Bf16;
}

void expect_matches(AttentionCase& data, AttentionPhase phase,
                    const reference::AttentionResult& want, Stream& stream) {
  const bool rounded = rounds(data);
  const PagedAttentionParams params = data.params();
  const std::vector<float> got = run(data, phase, stream);
  const int32_t head_dim = data.shape.head_dim;
  const int32_t group = data.shape.group;

  // A score sums head_dim products in float32: each step rounds by 2^-24 of at most the norm.
  const double score_error = (head_dim + 2) * 0x1p-24;
  std::vector<bool> unsure(want.score_norm.size());
  std::vector<uint64_t> unsure_votes(data.seqs.size());
  for (const reference::TileVote& vote : want.votes) {
    const AttentionSeq& seq = data.seqs[vote.seq];
    const int32_t first = seq.kv_len - seq.q_len;
    const bool decode = phase == AttentionPhase::kDecode;
    const int32_t row_begin = decode ? 0 : std::max(0, vote.query_tile * kQueryTile - first);
    const int32_t row_end =
        decode ? 1 : std::min(seq.q_len, (vote.query_tile + 1) * kQueryTile - first);
    const int32_t heads = decode ? group : 1;
    std::vector<size_t> units;
    double norm = 0;
    for (int32_t row = row_begin; row < row_end; ++row) {
      for (int32_t head = 0; head < heads; ++head) {
        units.push_back((seq.q_begin + row) * params.num_heads + vote.head * heads + head);
        norm = std::max(norm, want.score_norm[units.back()]);
      }
    }
    if (vote.margin > 2 * score_error * norm + 0x1p-19) continue;  // threshold: |log2| < 32, 2^-24
    ++unsure_votes[vote.seq];
    for (const size_t unit : units) unsure[unit] = true;
  }

  size_t compared = 0;
  for (size_t at = 0; at < got.size(); ++at) {
    const size_t unit = at / head_dim;
    if (unsure[unit]) continue;
    ++compared;
    // Relative error of a weight: its score's, exp2's and, on the bf16 path, half a bf16 ulp. It
    // enters numerator and denominator; sums of up to 4096 keys round on top.
    const double weight = want.score_norm[unit] * score_error * std::numbers::ln2 + 4e-7 +
                          (rounded ? 0x1p-9 + 1.6e-4 : 0);
    const double bound = (2 * weight + 4096 * 0x1p-23) * want.magnitude[at] + 1e-30;
    ASSERT_LE(std::abs(got[at] - want.out[at]), bound)
        << "element " << at << ": got " << got[at] << ", want " << want.out[at];
  }
  EXPECT_GE(compared, got.size() / 2) << "too many votes within rounding of the threshold";
  for (size_t idx = 0; idx < data.seqs.size(); ++idx) {
    const AttentionCounters& mine = data.counters[idx];
    const AttentionCounters& theirs = want.counters[idx];
    EXPECT_EQ(mine.pairs, theirs.pairs);
    EXPECT_EQ(mine.tiles, theirs.tiles);
    const auto off =
        static_cast<double>(mine.tiles_skipped) - static_cast<double>(theirs.tiles_skipped);
    EXPECT_LE(std::abs(off), static_cast<double>(unsure_votes[idx]));
    if (unsure_votes[idx] == 0) {
      EXPECT_EQ(mine.pairs_used, theirs.pairs_used);
    }
  }
}

std::vector<cpu::Isa> isa_levels() {
  std::vector<cpu::Isa> levels;
  for (int level = 0; level <= static_cast<int>(cpu::machine_isa()); ++level) {
    levels.push_back(static_cast<cpu::Isa>(level));
  }
  return levels;
}

}  // namespace foveal::kernels::testing

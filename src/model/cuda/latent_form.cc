#include "model/cuda/latent_form.h"

#include <algorithm>

#include "base/math.h"

namespace foveal::model {
namespace {

/// Rows of a query block of prefill_heads.
constexpr int64_t kBlockRows = 128;
constexpr int64_t kLatentHeads = 64;  ///< that mla_attention computes at once, needed or not
/// What a multiplication over latents takes, beside one of the other form's: measured
/// (docs/kernels/cuda_mla.md).
constexpr double kOverLatents = 1.12;

}  // namespace

int64_t HeadFormRoom::heads_at_once(const LatentConfig& dims, int64_t keys) const {
  const int64_t one = keys * (int64_t{dims.nope_dim} + dims.value_dim);
  return std::clamp<int64_t>(head_values / std::max<int64_t>(one, 1), 1, heads);
}

bool heads_take_less(const LatentConfig& dims, const HeadFormRoom& room,
                     std::span<const kernels::AttentionSeq> seqs) {
  double pairs = 0;
  double block_pairs = 0;  // of whole blocks, filled or not
  int64_t keys = 0;
  int64_t rows = 0;
  int64_t blocks = 0;
  for (const kernels::AttentionSeq& seq : seqs) {
    const int64_t seq_blocks = ceil_div(int64_t{seq.q_len}, kBlockRows);
    const double seen = seq.kv_len - seq.q_len / 2.0;
    pairs += double{1} * seq.q_len * seen;
    block_pairs += static_cast<double>(seq_blocks * kBlockRows) * seen;
    keys += seq.kv_len;
    rows += seq.q_len;
    blocks += seq_blocks;
  }
  const int64_t items = blocks * room.heads_at_once(dims, keys);
  const double busy =
      static_cast<double>(items) / static_cast<double>(round_up(items, room.processors));
  // Of one head. Queries into the latents' space and values out of it cost a row what keys and
  // values of heads cost a key.
  const double change = double{1} * dims.kv_rank * (dims.nope_dim + dims.value_dim);
  const double padded =
      static_cast<double>(round_up(room.heads, kLatentHeads)) / static_cast<double>(room.heads);
  const double latents =
      pairs * (dims.width() + dims.kv_rank) * padded + static_cast<double>(rows) * change;
  const double heads = block_pairs * (dims.nope_dim + dims.rope_dim + dims.value_dim) / busy +
                       static_cast<double>(keys) * change;
  return heads < kOverLatents * latents;
}

}  // namespace foveal::model

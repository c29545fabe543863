#pragma once

#include <cstdint>
#include <span>

#include "base/kv_view.h"
#include "device/stream.h"
#include "kernels/paged_attention.h"

namespace foveal::kernels {

/// Members of a row's set that one softmax tile takes; tiles are joined in ascending order.
inline constexpr int32_t kLatentTile = 256;

/// Which keys each row of a call attends to: ascending, request-local, without repeats; at least
/// one a row and none after its own.
struct TokenSets {
  const int64_t* offsets = nullptr;  ///< [rows + 1], row r: tokens[offsets[r] .. offsets[r + 1])
  const int32_t* tokens = nullptr;
};

/// Multi-head latent attention over a latent cache (base/kv_view.h), absorbed: every head scores
/// the same row of kv.head_dim channels, and the first kv.value_dim of them are the value
/// (DeepSeek-V2, arXiv 2405.04434, section 2.1; MQA form).
///
///     out[r, h] = sum_s softmax_s(scale * q[r, h] . row_s) * row_s[0 .. value_dim)
///
/// over s in [0, position of r], or in the row's set. A row's result depends on its set alone:
/// keys are taken in ascending order in tiles of kLatentTile *set members*, so that a set of all
/// keys gives the bits that no set gives, whatever the phase, batch, chunk or thread count.
struct LatentAttentionParams {
  const float* q = nullptr;  ///< [rows, num_heads, kv.head_dim], row stride q_stride elements
  float* out = nullptr;      ///< [rows, num_heads, kv.value_dim], row stride out_stride
  int64_t q_stride = 0;
  int64_t out_stride = 0;
  int32_t num_heads = 0;
  KvLayerView kv;
  std::span<const AttentionSeq> seqs;
  /// Null: every key up to the row's own. Row r of the sets is the r-th row of the call, counted
  /// over seqs in order.
  const TokenSets* sets = nullptr;
  float softmax_scale = 1;
  AttentionCounters* counters = nullptr;  ///< [seqs.size()], added to; null: not counted
  bool exact = false;                     ///< float32 throughout
};

void latent_attention(const LatentAttentionParams& params, Stream& stream);

/// Writes latent rows to their slots.
struct LatentStoreParams {
  const float* rows = nullptr;  ///< [rows, kv.head_dim], row stride `stride` elements
  int64_t stride = 0;
  KvLayerView kv;
  std::span<const AttentionSeq> seqs;
};

void latent_store(const LatentStoreParams& params, Stream& stream);

}  // namespace foveal::kernels

#pragma once

#include <cstdint>

#include "kernels/cuda/sm90/prefill_kept.h"

namespace foveal::cuda {

/// Keys a tile, and warpgroups of 64 query rows a CTA; see PrefillTraits for why.
constexpr int32_t prefill_keys(int32_t head_dim, int32_t value_dim) {
  return value_dim <= 128 && head_dim <= 192 ? 128 : 64;
}
constexpr int32_t prefill_keys(int32_t head_dim) { return prefill_keys(head_dim, head_dim); }
constexpr int32_t prefill_warpgroups(int32_t head_dim, bool skip) {
  return head_dim <= (skip ? 192 : 64) ? 3 : 2;
}

/// The same where queries, keys and values are e4m3.
constexpr int32_t e4m3_keys(int32_t head_dim) {
  if (head_dim == 96 || head_dim == 128) return 96;
  return head_dim == 256 ? 64 : 128;
}
constexpr int32_t e4m3_warpgroups(int32_t head_dim) { return head_dim <= 128 ? 3 : 2; }

/// Latent attention in the form of heads: channels of a head's queries and keys, those of its keys
/// that are its own (all share the others), and channels of its values.
inline constexpr int32_t kHeadFormDim = 192;
inline constexpr int32_t kHeadFormOwn = 128;
inline constexpr int32_t kHeadFormValues = 128;

/// Kernel arguments beside the three tensor maps. See foveal_attention_params for what they mean.
struct PrefillArgs {
  void* out;
  int64_t out_row_stride;
  int64_t out_head_stride;
  float* lse;
  int64_t lse_row_stride;
  const int32_t* cu_q;
  const int32_t* kv_len;
  const int32_t* page_table;
  int64_t page_table_stride;
  const int32_t* cu_k;
  const uint8_t* k_tiles;  ///< e4m3 only: a KV head's keys, in the order of shared memory
  const uint8_t* v_tiles;
  int64_t tiles_head_bytes;  ///< from a KV head to the next
  const float* skip_factors;
  const int32_t* threshold_len;
  unsigned long long* counters;
  KeptTiles kept;           ///< ListedTraits and VoteTraits only
  const float* key_scales;  ///< VoteTraits only: [num_kv_heads, tiles in tiles_head_bytes]
  uint32_t* next_item;      ///< 0 between launches
  int32_t num_seqs;
  int32_t num_heads;
  int32_t num_kv_heads;
  int32_t group;       ///< query heads of a KV head
  int32_t page_shift;  ///< log2 of the page size
  int32_t box_rows;    ///< keys a copy
  int32_t window;
  int32_t l2_head_bytes;  ///< share of L2 that the K and V of heads worked on together may take
  float scale_log2;       ///< softmax scale (and those of q and k) times log2 e
  float out_scale;        ///< v's
  float skip_factor;
};

}  // namespace foveal::cuda

#pragma once

#include <cstdint>
#include <vector>

#include "kernels/attention_check.h"
#include "kernels/paged_attention.h"

namespace foveal::kernels::reference {

/// One decision of Skip Softmax: a unit (prefill: a query head's kQueryTile rows; decode: a KV
/// head's query heads) and a key tile that some row of it sees.
struct TileVote {
  int32_t seq = 0;
  int32_t head = 0;        ///< query head in prefill, KV head in decode
  int32_t query_tile = 0;  ///< position / kQueryTile; 0 in decode
  int32_t key_tile = 0;
  bool dropped = false;
  double margin = 0;  ///< log2 distance from the threshold of the row that decides; +inf if exempt
};

struct AttentionResult {
  std::vector<double> out;  ///< [rows, num_heads, head_dim], row r at r * num_heads * head_dim
  std::vector<double> magnitude;   ///< same shape: the weights' mean of |v|, what errors scale with
  std::vector<double> score_norm;  ///< [rows, num_heads]: largest sum over d of |q k|, log2 domain
  std::vector<TileVote> votes;
  std::vector<AttentionCounters> counters;  ///< [seqs]
};

/// The definition in kernels/paged_attention.h, key by key in double precision, with the kernels'
/// tiles and splits. `round_q`: queries are scaled and rounded to bf16 first, as on the bf16 path.
AttentionResult attention(const PagedAttentionParams& params, AttentionPhase phase, bool round_q);

/// A value of the cache: K when `key`, else V.
double cache_value(const KvLayerView& kv, bool key, int32_t page, int32_t head, int32_t slot,
                   int32_t channel);

}  // namespace foveal::kernels::reference

#pragma once

#include <cstdint>
#include <span>

#include "base/kv_view.h"
#include "device/stream.h"

namespace foveal::kernels {

/// CPU tile geometry. All boundaries are at absolute positions of the sequence, so neither chunking
/// nor batch moves them. Skip Softmax's calibration belongs to these numbers.
inline constexpr int32_t kQueryTile = 16;     ///< rows (positions) of one head: the vote unit
inline constexpr int32_t kKeyTile = 32;       ///< keys a tile, in prefill and decode
inline constexpr int32_t kDecodeSplit = 512;  ///< keys a decode split; a multiple of kKeyTile
/// Decode's votes start from the largest scores in a row's first and last keys: so many aligned
/// runs of kSeedKeys at each end. Sinks and neighbours hold nearly every row's maximum, and a split
/// that began with its own would drop next to nothing.
inline constexpr int32_t kSeedKeys = 16;
inline constexpr int32_t kSeedRuns = 4;

/// CUDA tile geometry of prefill, likewise at absolute positions: a chunk but the last ends at
/// whole key tiles. Decode's is foveal_attention_decode_tiling's (include/foveal/kernels.h).
inline constexpr int32_t kCudaQueryTile = 64;
inline constexpr int32_t kCudaKeyTile = 128;

/// One sequence's rows in a call. Row i (of q_len) is the token at position
/// evicted + kv_len - q_len + i, and its K and V are already in the cache.
struct AttentionSeq {
  int32_t q_begin = 0;             ///< first row in q and out
  int32_t q_len = 0;               ///< decode: 1
  int32_t kv_len = 0;              ///< keys present, these rows' own included
  int32_t evicted = 0;             ///< keys of the text that are present no more
  int32_t threshold_len = 0;       ///< the length in Skip Softmax's threshold (prefill: the whole
                                   ///< prompt, whatever the chunk; decode: kv_len)
  const int32_t* pages = nullptr;  ///< page ids [ceil(kv_len / page_size)]
  /// Replaces skip_factor for this sequence where the call's is above 0; negative: the call's.
  float own_skip_factor = -1;

  float skip_factor(float of_call) const {
    return of_call > 0 && own_skip_factor >= 0 ? own_skip_factor : of_call;
  }
};

/// The sequences of one phase as arrays on a device that runs behind the host. Kernels read lengths
/// and pages from here, so that a captured graph serves every step of its shape.
struct DeviceSeqs {
  int32_t num_seqs = 0;
  int32_t num_rows = 0;
  int32_t max_q_len = 0;             ///< bounds over the sequences, on the host
  int32_t max_kv_len = 0;            ///< likewise
  int64_t total_kv_len = 0;          ///< of all together, on the host; 0: not known
  const int32_t* cu_q = nullptr;     ///< [num_seqs + 1], rows of the phase; decode: null
  const int32_t* kv_len = nullptr;   ///< [num_seqs]
  const int32_t* evicted = nullptr;  ///< [num_seqs], see AttentionSeq
  /// Of latent caches: how many keys each row sees, and its sequence (null: row r is sequence r).
  const int32_t* row_keys = nullptr;       ///< [num_rows]
  const int32_t* row_seq = nullptr;        ///< [num_rows]
  const int32_t* threshold_len = nullptr;  ///< [num_seqs]
  const float* skip_factors = nullptr;     ///< [num_seqs], negative: the call's; null: no own ones
  const int32_t* page_table = nullptr;     ///< [num_seqs, page_table_stride]
  int64_t page_table_stride = 0;
  /// [num_seqs]: what a method keeps of each on the device, or null.
  const void* const* states = nullptr;
};

/// Work of one sequence in one layer, over all heads. A pair is one unmasked (query, key).
struct AttentionCounters {
  uint64_t pairs = 0;       ///< that dense attention uses
  uint64_t pairs_used = 0;  ///< whose V was used
  uint64_t tiles = 0;       ///< tiles considered (not wholly masked)
  uint64_t tiles_skipped = 0;

  void add(const AttentionCounters& other) {
    pairs += other.pairs;
    pairs_used += other.pairs_used;
    tiles += other.tiles;
    tiles_skipped += other.tiles_skipped;
  }
};

/// Pairs that dense attention uses for a sequence's rows, over all heads: with its whole text, and
/// with the keys that are present.
uint64_t dense_pairs(const AttentionSeq& seq, int32_t window, int32_t num_heads);
uint64_t present_pairs(const AttentionSeq& seq, int32_t window, int32_t num_heads);

/// What became of each tile of one sequence's call: 0 no row sees it, 1 used, 2 dropped.
struct TileMap {
  uint8_t* tiles = nullptr;  ///< prefill: [query tiles of the call, num_heads, stride]; decode:
                             ///< [num_kv_heads, stride]; zeroed by the caller
  int64_t stride = 0;        ///< at least ceil(kv_len / kKeyTile)
};

/// softmax(scale * q K^T + mask) V over paged K and V, for a ragged batch of one phase. Causal: a
/// row at position p sees keys [max(0, p - window + 1), p], or [0, p] when window is 0.
///
/// With `skip_factor` > 0 a key tile is dropped for a query tile (prefill: the kQueryTile positions
/// of one query head; decode: all query heads of one KV head) when every unmasked row in it has
/// `tile_max - running_max < log(skip_factor / threshold_len)`, strictly, where running_max is the
/// row's maximum over the tiles before it that were kept (BLASST, arXiv 2512.12087; a dropped tile
/// never raises it). In prefill the first tile of a row's loop is never dropped; in decode
/// running_max starts, in every split, from the row's first and last keys (kSeedKeys). Nothing is
/// dropped when skip_factor >= threshold_len. In decode V of a dropped tile is not read.
struct PagedAttentionParams {
  const float* q = nullptr;  ///< [rows, num_heads, head_dim], row stride q_stride elements
  float* out = nullptr;      ///< same shape, row stride out_stride
  int64_t q_stride = 0;
  int64_t out_stride = 0;
  int32_t num_heads = 0;  ///< a multiple of kv.num_kv_heads
  KvLayerView kv;
  std::span<const AttentionSeq> seqs;
  float softmax_scale = 1;
  int32_t window = 0;
  float skip_factor = 0;                  ///< 0: dense
  AttentionCounters* counters = nullptr;  ///< [seqs.size()], added to; null: not counted
  bool exact = false;                     ///< float32 throughout (q and probabilities not rounded)
  TileMap tile_map;                       ///< for traces; needs counters and one sequence
};

/// Many rows a sequence: tiled flash attention. With skip_factor > 0 every sequence's first row
/// must be at a multiple of kQueryTile.
void paged_prefill(const PagedAttentionParams& params, Stream& stream);

/// One row a sequence: splits of kDecodeSplit keys at absolute positions, combined in ascending
/// order.
void paged_decode(const PagedAttentionParams& params, Stream& stream);

/// Writes rows of K and V to their slots in the pages.
struct KvStoreParams {
  const float* k = nullptr;  ///< [rows, num_kv_heads, head_dim], row stride k_stride
  const float* v = nullptr;  ///< same, row stride v_stride
  int64_t k_stride = 0;
  int64_t v_stride = 0;
  KvLayerView kv;
  std::span<const AttentionSeq> seqs;
};
void kv_store(const KvStoreParams& params, Stream& stream);

}  // namespace foveal::kernels

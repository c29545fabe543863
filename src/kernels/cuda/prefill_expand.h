#pragma once

#include <cstdint>

namespace foveal::kernels::cuda {

/// How keys and values of an e4m3 cache are laid out for a prefill kernel.
enum class CacheLayout {
  kBf16,   ///< rows, [num_kv_heads, rows, head_dim]
  kF16,    ///< the same
  kTiles,  ///< e4m3, in the order in which sm90/prefill_e4m3_* have them in shared memory
};

/// Keys and values of an e4m3 cache, and where they go; see prefill_scratch.h. Strides in bytes.
struct ExpandCacheParams {
  const uint8_t* k;
  const uint8_t* v;
  int64_t k_page_stride, k_head_stride, k_token_stride;
  int64_t v_page_stride, v_head_stride, v_token_stride;
  const int32_t* page_table;  ///< [num_seqs, page_table_stride]; null: contiguous
  int64_t page_table_stride;
  int32_t page_shift;
  const int32_t* cu_k;    ///< contiguous only
  const int32_t* kv_len;  ///< [num_seqs]
  const int32_t* cu_q;    ///< [num_seqs + 1]
  int32_t window;         ///< rows that it hides from every query are left out
  int32_t* starts;        ///< [num_seqs + 1]: row of scratch where a sequence begins; the end
  int32_t num_seqs;
  int32_t num_kv_heads;
  int32_t head_dim;
  int32_t unit;  ///< sequences begin at its multiples in scratch, and zeros fill up to the next
  int64_t rows;  ///< of scratch, a multiple of it
  void* k_out;
  void* v_out;
  CacheLayout layout;
};
void expand_cache_launch(const ExpandCacheParams& params, void* stream);
/// Only `starts`, from num_seqs, kv_len and unit.
void scratch_starts_launch(const ExpandCacheParams& params, void* stream);

/// Its parts: where sequences begin, then rows, or tiles.
void tile_cache_launch(const ExpandCacheParams& params, void* stream);

}  // namespace foveal::kernels::cuda

#pragma once

#include <cstdint>

namespace foveal::kernels::cuda {

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
  int32_t* starts;        ///< [num_seqs + 1]: row of scratch where a sequence begins; the end
  int32_t num_seqs;
  int32_t num_kv_heads;
  int32_t head_dim;
  int64_t rows;  ///< of scratch, a multiple of kScratchRows
  void* k_out;   ///< [num_kv_heads, rows, head_dim]
  void* v_out;
  bool f16;  ///< else bf16
};
void expand_cache_launch(const ExpandCacheParams& params, void* stream);

}  // namespace foveal::kernels::cuda

#pragma once

#include <cstdint>

namespace foveal::cuda {

/// What the scoring kernels read beside their tensor maps; see foveal/kernels_indexer.h.
struct IndexerArgs {
  const float* weights;
  const int32_t* cu_q;
  const int32_t* kv_len;
  const int32_t* page_table;
  const int32_t* row_end;
  const uint8_t* keys;  ///< the lane
  float* scores;
  int64_t page_table_stride;
  int64_t page_bytes;
  int64_t row_stride;
  int32_t scales_offset;  ///< bytes from a page's beginning to its scales
  int32_t page_size;
  int32_t box_rows;  ///< of a page, copied at a time; divides 64 and page_size
  int32_t num_seqs;
  int32_t table_pages;  ///< of a page table's row, to bring into L2 ahead; 0: none
  int32_t first_position;
  int32_t row_begin;
  int32_t row_count;
  int32_t chunk_keys;  ///< of one work item
};

}  // namespace foveal::cuda

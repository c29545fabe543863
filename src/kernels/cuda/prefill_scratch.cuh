#pragma once

#include "kernels/cuda/prefill_expand.h"

// Where the rows of scratch come from.

namespace foveal::kernels::cuda {

/// The sequence that row `row` of scratch belongs to; a row past the last one gives num_seqs.
__device__ inline int32_t sequence_of(const ExpandCacheParams& p, int64_t row) {
  int32_t low = 0;
  int32_t high = p.num_seqs + 1;  // starts[low] <= row < starts[high]
  while (high - low > 1) {
    const int32_t mid = (low + high) / 2;
    (p.starts[mid] <= row ? low : high) = mid;
  }
  return low;
}

/// The first key that is laid out: tiles before it are nobody's.
__device__ inline int32_t first_key(const ExpandCacheParams& p, int32_t seq) {
  if (p.window == 0) return 0;
  const int32_t position = p.kv_len[seq] - (p.cu_q[seq + 1] - p.cu_q[seq]);
  return max(0, position - p.window + 1) / p.unit * p.unit;
}

/// A key of a sequence in the cache: page (0 without pages) and row in it.
struct CacheRow {
  int64_t page;
  int64_t row;
};

__device__ inline CacheRow cache_row(const ExpandCacheParams& p, int32_t seq, int32_t key) {
  if (p.page_table == nullptr) return {0, int64_t{p.cu_k[seq]} + key};
  return {p.page_table[seq * p.page_table_stride + (key >> p.page_shift)],
          key & ((1 << p.page_shift) - 1)};
}

__device__ inline const uint8_t* k_row(const ExpandCacheParams& p, CacheRow at, int64_t head) {
  return p.k + at.page * p.k_page_stride + head * p.k_head_stride + at.row * p.k_token_stride;
}
__device__ inline const uint8_t* v_row(const ExpandCacheParams& p, CacheRow at, int64_t head) {
  return p.v + at.page * p.v_page_stride + head * p.v_head_stride + at.row * p.v_token_stride;
}

}  // namespace foveal::kernels::cuda

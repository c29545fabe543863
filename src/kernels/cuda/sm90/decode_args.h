#pragma once

#include <cstdint>

#include "kernels/cuda/decode_plan.h"

namespace foveal::kernels::cuda {

/// What the decode kernels read: foveal_attention_params with strides in bytes and every choice
/// made.
struct DecodeArgs {
  const char* q;  ///< [num_seqs, num_heads, head_dim]
  int64_t q_row_bytes;
  int64_t q_head_bytes;
  char* out;  ///< same
  int64_t out_row_bytes;
  int64_t out_head_bytes;
  float* lse;  ///< [num_seqs, num_heads] or null

  const char* k;
  int64_t k_page_bytes;
  int64_t k_head_bytes;
  int64_t k_token_bytes;
  const char* v;
  int64_t v_page_bytes;
  int64_t v_head_bytes;
  int64_t v_token_bytes;

  const int32_t* kv_len;      ///< [num_seqs]
  const int32_t* page_table;  ///< [num_seqs, page_table_stride]; null: contiguous rows from cu_k
  int64_t page_table_stride;
  const int32_t* cu_k;
  int32_t page_shift;  ///< log2 of the page size
  int32_t num_seqs;
  int32_t num_heads;
  int32_t num_kv_heads;  ///< times the passes: rows of work a sequence
  int32_t group;         ///< query heads of a row
  Divider passes;        ///< rows of a KV head
  int32_t window;
  int32_t q_dtype;          ///< foveal_dtype
  uint32_t prefetch_lines;  ///< of one page table row, worth prefetching; 0: none

  float scale_log2;  ///< softmax_scale * log2(e) * q_scale * k_scale
  float v_scale;

  float skip_factor;
  const float* skip_factors;     ///< [num_seqs] or null
  const int32_t* threshold_len;  ///< [num_seqs] or null
  unsigned long long* counters;  ///< [num_seqs, 4] or null

  uint32_t* arrivals;  ///< [num_seqs, num_kv_heads], zero between calls
  uint32_t* tickets;   ///< [2]: short runs taken, CTAs done; zero between calls
  float* stats;        ///< [slots, group, 2]
  float* partial;      ///< [slots, group, head_dim]
  Divider chunk_units;
  uint32_t min_chunks_log2;  ///< fewest chunks a CTA
  int32_t max_splits;  ///< slots of a (sequence, KV head) with fixed splits; 0: splits as dealt

  /// Listed pages (sm90/decode_listed.cuh): kv_len counts the tokens of a sequence's longest list,
  /// and no page table is read.
  const int32_t* slots;  ///< [num_seqs, KV heads, slots_stride] pages of 2^slot_shift tokens, by
                         ///< their place in the pool
  int64_t slots_stride;
  const int32_t* slots_lengths;  ///< [num_seqs, KV heads] at most kv_len
  int32_t slot_shift;
};

}  // namespace foveal::kernels::cuda

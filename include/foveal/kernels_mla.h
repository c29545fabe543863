#ifndef FOVEAL_KERNELS_MLA_H_
#define FOVEAL_KERNELS_MLA_H_

/* Multi-head latent attention on CUDA in its absorbed form, in the manner of foveal/kernels.h: over
 * all keys of a latent cache, or over lists of them (DeepSeek Sparse Attention). */

#include "foveal/kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

#define FOVEAL_MLA_HEAD_DIM \
  576 /* of queries and keys: 512 channels of the latent, 64 that rotate */
#define FOVEAL_MLA_VALUE_DIM 512 /* of outputs: a key's first 512 channels are its value */
#define FOVEAL_MLA_FP8_ROW 656   /* bytes */

/* A latent cache: slot s % page_size of page s / page_size, for each slot s of the pool, is a row.
 * With dtype FOVEAL_BF16 a row is 576 bf16 channels (1152 bytes); with FOVEAL_E4M3 it is 656 bytes:
 * 512 e4m3 values, a float32 scale for each 128 of them, 64 bf16 channels. A stored value times its
 * scale is the channel. Scales are powers of two up to 128 (others count as their nearest bf16). */
typedef struct foveal_latent_cache {
  void* data;         /* device, 16-byte aligned */
  int64_t page_bytes; /* from one page to the next: page_size rows or more, a multiple of 16 */
  int32_t dtype;      /* FOVEAL_BF16 or FOVEAL_E4M3 */
  int32_t page_size;  /* any */
  int32_t num_pages;
} foveal_latent_cache;

/* For each row r and head h
 *
 *     out[r, h] = sum over the row's keys of softmax(softmax_scale * q[r, h] . key) * key[0 .. 512)
 *
 * The keys of row r are, with `indices`, the first counts[r] of indices[r * indices_stride ..]:
 * slots of the pool, or with FOVEAL_MLA_LOCAL tokens of the row's sequence. What is no slot of the
 * pool (or no token of the page table's row), -1 above all, is no key. Without `indices` they are
 * the first counts[r] tokens of the row's sequence; give a row its position + 1 for causal
 * attention. A row without any key gives 0. One key listed twice counts twice. */
typedef struct foveal_mla_params {
  uint32_t struct_size; /* sizeof(foveal_mla_params) */
  int32_t num_rows;
  int32_t num_heads;
  int32_t max_keys; /* no row has more, listed or not: counts above it are cut */
  const void* q;    /* bf16 [num_rows, num_heads, 576], absorbed; strides in elements */
  int64_t q_row_stride;
  int64_t q_head_stride;
  void* out; /* bf16 [num_rows, num_heads, 512] */
  int64_t out_row_stride;
  int64_t out_head_stride;
  float* lse; /* [num_rows, num_heads], natural log; -inf where a row has no key; or null */

  foveal_latent_cache cache;

  const int32_t* indices; /* device [num_rows, indices_stride], or null: all keys */
  int64_t indices_stride;
  const int32_t* counts;     /* device [num_rows]; null: max_keys */
  const int32_t* page_table; /* device [sequences, page_table_stride]; null with lists of slots */
  int64_t page_table_stride;
  const int32_t* row_seq; /* device [num_rows]: a row's sequence; null: row r is sequence r's */

  float softmax_scale;
  uint32_t flags;  /* FOVEAL_MLA_... */
  int32_t splits;  /* parts that a row's keys are cut into; 0: as many as fill the GPU */
  void* workspace; /* device, 256-byte aligned; not shared by calls that may overlap; any content */
  size_t workspace_bytes;
} foveal_mla_params;

#define FOVEAL_MLA_LOCAL 1u /* indices are tokens of the row's sequence */
#define FOVEAL_MLA_FIXED_SPLITS                          \
  2u /* splits 0: parts by a row's own count alone, some \
        500 keys each: its bits do not depend on what else is in the call */

/* One entry for prefill and decode: a row is a query token. */
foveal_status foveal_mla_attention(const foveal_mla_params* params, void* cuda_stream,
                                   char* message, size_t message_size);
/* Bytes of workspace for a call of this shape: from sizes alone, 0 where they are refused or none
 * is needed. */
size_t foveal_mla_workspace(const foveal_mla_params* params);

/* What counts and row_seq hold for a ragged batch: of sequence s, rows cu_q[s] .. cu_q[s + 1) are
 * the tokens at the end of its kv_len[s], each of which sees the keys up to itself. */
typedef struct foveal_mla_rows_params {
  uint32_t struct_size; /* sizeof(foveal_mla_rows_params) */
  int32_t num_seqs;
  int32_t num_rows;      /* rows past cu_q[num_seqs] get count 0 and sequence 0 */
  const int32_t* cu_q;   /* device [num_seqs + 1]; null: one row a sequence */
  const int32_t* kv_len; /* device [num_seqs] */
  int32_t* counts;       /* out: device [num_rows], or null */
  int32_t* row_seq;      /* out: device [num_rows], or null */
} foveal_mla_rows_params;

foveal_status foveal_mla_rows(const foveal_mla_rows_params* params, void* cuda_stream,
                              char* message, size_t message_size);

/* Writes latent rows to their slots, as they are or rounded to 656 bytes. Of each 128 channels the
 * scale is 2^ceil(log2(max(amax / 448, 1e-4))). */
typedef struct foveal_mla_store_params {
  uint32_t struct_size; /* sizeof(foveal_mla_store_params) */
  int32_t num_rows;
  const void* latent; /* bf16 [num_rows, 512]; strides in elements, rows at multiples of 16 bytes */
  int64_t latent_stride;
  const void* rope; /* bf16 [num_rows, 64] */
  int64_t rope_stride;
  const int32_t* slots; /* device [num_rows]: of the pool; -1: not stored; or null: the row's own
                           token, counts[r] - 1, of its sequence */
  const int32_t* counts;
  const int32_t* page_table;
  int64_t page_table_stride;
  const int32_t* row_seq;
  foveal_latent_cache cache;
} foveal_mla_store_params;

foveal_status foveal_mla_store(const foveal_mla_store_params* params, void* cuda_stream,
                               char* message, size_t message_size);

#ifdef __cplusplus
}
#endif

#endif /* FOVEAL_KERNELS_MLA_H_ */

#ifndef FOVEAL_KERNELS_H_
#define FOVEAL_KERNELS_H_

/* Foveal's CUDA attention kernels behind a plain C interface (libfoveal_kernels.so): plain
 * parameter structs, raw device pointers, strides and a stream. Nothing is allocated, nothing
 * synchronises; a call is checked on the host, launched on the stream, and may be captured into a
 * CUDA graph.
 *
 * Every entry returns a foveal_status and, where that is not FOVEAL_OK, writes one sentence of the
 * form "[where] got X; need Y" into `message` (always terminated; may be null with size 0). */

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define FOVEAL_KERNELS_ABI 2

typedef enum foveal_status {
  FOVEAL_OK = 0,
  FOVEAL_INVALID_ARGUMENT = 1, /* the call is wrong whatever the device */
  FOVEAL_UNSUPPORTED = 2,      /* this device or build has no kernel for it */
  FOVEAL_CUDA_ERROR = 3        /* the CUDA runtime refused; the message names the call */
} foveal_status;

typedef enum foveal_dtype { FOVEAL_BF16 = 0, FOVEAL_F16 = 1, FOVEAL_E4M3 = 2 } foveal_dtype;

/* Bits of foveal_attention_params.flags. */
#define FOVEAL_ATTENTION_FIXED_SPLITS                         \
  1u /* decode: splits at absolute positions, so that a row's \
        result does not depend on its batch */
#define FOVEAL_ATTENTION_INT8_VOTES                       \
  2u /* prefill: Skip Softmax votes by scores of keys and \
        queries rounded to int8, in a kernel of its own;  \
        what is kept is attended to exactly. Without a    \
        skip_factor, and in decode, it changes nothing */

/* softmax(scale * q K^T + mask) V over a ragged batch. Sequence s has kv_len[s] keys; its queries
 * are the tokens at the end of them: in prefill cu_q[s + 1] - cu_q[s] of them, in decode one.
 * Causal: the query at position p sees keys [max(0, p - window + 1), p], or [0, p] when window is
 * 0.
 *
 * K and V lie in pages: key i of sequence s is row i % page_size of page
 * page_table[s * page_table_stride + i / page_size]. Rows past the length must hold finite values.
 * Without a page table they are contiguous: key i of sequence s is row cu_k[s] + i, and the page
 * fields are ignored. All strides count elements; the innermost dimension is dense, and every row
 * starts at a multiple of 16 bytes.
 *
 * With keys and values in e4m3 the queries choose the arithmetic: bf16 and f16 queries see the
 * values as stored and nothing is rounded to e4m3; in prefill e4m3 queries multiply in e4m3, and
 * probabilities are rounded to it (docs/kernels/cuda_prefill_e4m3.md says what that costs).
 *
 * Skip Softmax (BLASST, arXiv 2512.12087): with a factor above 0 a key tile is dropped for a vote
 * unit when every unmasked row in it has tile_max - running_max < log(factor / threshold_len),
 * strictly; running_max is the row's maximum over the tiles before it that were kept. In prefill
 * the first tile is never dropped. In decode running_max starts, in every split, from the maximum
 * over the row's first and last keys (64 each, 32 above head_dim 128), wherever the split lies.
 * Nothing is dropped when factor >= threshold_len. Tiles are at absolute positions;
 * foveal_attention_prefill_tiling and foveal_attention_decode_tiling tell their geometry. */
typedef struct foveal_attention_params {
  uint32_t struct_size; /* sizeof(foveal_attention_params) */
  int32_t q_dtype;      /* bf16 or f16; e4m3 where kv_dtype is. The output is bf16 for e4m3 */
  int32_t kv_dtype;     /* q_dtype, or e4m3 */

  const void* q; /* [num_rows, num_heads, head_dim] */
  int64_t q_row_stride;
  int64_t q_head_stride;
  void* out; /* like q */
  int64_t out_row_stride;
  int64_t out_head_stride;
  float* lse; /* [num_rows, num_heads], natural log; -inf where a row sees no key; or null */

  const void* k; /* [num_pages, ...] in any order of page_size and num_kv_heads, or
                    [rows, num_kv_heads, head_dim] */
  int64_t k_page_stride;
  int64_t k_head_stride;
  int64_t k_token_stride;
  const void* v;
  int64_t v_page_stride;
  int64_t v_head_stride;
  int64_t v_token_stride;

  int32_t num_seqs;
  int32_t num_rows; /* of q and out */
  int32_t num_heads;
  int32_t num_kv_heads;
  int32_t head_dim;     /* 64, 96, 128, 192 or 256 */
  int32_t page_size;    /* 16, 32, 64 or 128 */
  int32_t num_pages;    /* of the pool; without a page table: rows of k and v */
  int32_t max_q_len;    /* no sequence has more queries (prefill) */
  int32_t max_kv_len;   /* no sequence has more keys */
  int64_t total_kv_len; /* nor all of them together; 0: num_seqs * max_kv_len. Prefill over an e4m3
                           cache or with int8 votes needs fewer launches, the closer it is */

  const int32_t* cu_q;       /* device [num_seqs + 1]; null in decode */
  const int32_t* kv_len;     /* device [num_seqs] */
  const int32_t* page_table; /* device [num_seqs, page_table_stride], or null */
  int64_t page_table_stride;
  const int32_t* cu_k; /* device [num_seqs + 1]; only without a page table */

  float softmax_scale;
  int32_t window; /* 0: all keys before */
  float q_scale;  /* of e4m3 values; 1 otherwise */
  float k_scale;
  float v_scale;

  float skip_factor;            /* 0: dense */
  const float* skip_factors;    /* device [num_seqs]: replaces one above 0 where >= 0; or null */
  const int32_t* threshold_len; /* device [num_seqs]; null: kv_len */
  uint64_t* counters; /* device [num_seqs, 4], added to: (query, key) pairs, pairs used, tiles,
                         tiles skipped; or null */

  void* workspace; /* device, 256-byte aligned, zeroed once by the caller, then left alone;
                      not shared by calls that may overlap, nor by prefill and decode */
  size_t workspace_bytes;
  int32_t split_keys; /* decode with FIXED_SPLITS: keys a split, a multiple of 64; 0: 512 */
  uint32_t flags;
} foveal_attention_params;

/* Tile geometry of Skip Softmax for a call: what a calibration belongs to; 0 for refused sizes. */
typedef struct foveal_attention_tiling {
  int32_t vote_rows; /* prefill: queries of one head; decode: query heads of one KV head */
  int32_t keys;      /* a tile */
} foveal_attention_tiling;

foveal_status foveal_attention_prefill(const foveal_attention_params* params, void* cuda_stream,
                                       char* message, size_t message_size);
foveal_status foveal_attention_decode(const foveal_attention_params* params, void* cuda_stream,
                                      char* message, size_t message_size);

/* Bytes of workspace for a call of this shape: from sizes alone, 0 where they are refused. Prefill
 * over an e4m3 cache lays keys and values out in the workspace first, and with int8 votes keys in
 * int8 and a bit a tile; it takes any size from one KV head of one sequence of max_kv_len keys on,
 * in more launches where it is less than this. No result depends on it. */
size_t foveal_attention_prefill_workspace(const foveal_attention_params* params);
size_t foveal_attention_decode_workspace(const foveal_attention_params* params);

foveal_attention_tiling foveal_attention_prefill_tiling(const foveal_attention_params* params);
foveal_attention_tiling foveal_attention_decode_tiling(const foveal_attention_params* params);

#ifdef __cplusplus
}
#endif

#endif /* FOVEAL_KERNELS_H_ */

#ifndef FOVEAL_KERNELS_INDEXER_H_
#define FOVEAL_KERNELS_INDEXER_H_

/* The lightning indexer of DeepSeek Sparse Attention on CUDA, in the manner of foveal/kernels.h:
 * index queries and keys in e4m3, and the score of each key for each query, from which the top-k
 * of foveal/kernels_top_k.h (or another) selects. */

#include "foveal/kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The lane of index keys, under the page table of the cache. A page holds page_size rows of
 * head_dim e4m3 values and then, for each row, a float32 scale (a power of two): a stored value
 * times its row's scale is the channel. */
typedef struct foveal_index_keys {
  void* data;         /* device, 16-byte aligned */
  int64_t page_bytes; /* from one page to the next: page_size * (head_dim + 4) or more, a multiple
                         of 16 */
  int32_t page_size;  /* a multiple of 16 */
  int32_t num_pages;  /* of the pool */
} foveal_index_keys;

/* The rows of a call are the newest tokens of its sequences: with cu_q the last
 * cu_q[s + 1] - cu_q[s] of kv_len[s], rows cu_q[s] to cu_q[s + 1]; without it one of each, row s.
 * Token i of sequence s has slot i % page_size of page page_table[s * page_table_stride +
 * i / page_size]; a token of a negative page is nowhere. */

/* Makes index queries and keys from projections after LayerNorm and rope: for each vector x
 *
 *     y = Hadamard(x) / sqrt(head_dim)           (Sylvester's matrix, in float32)
 *     scale = max(|y|, 1e-4) / 448, rounded up to a power of two
 *     stored = y / scale, in e4m3
 *
 * keys into their slots, and queries with the weights that foveal_indexer_scores takes,
 *
 *     weights_out[r, h] = weights[r, h] * scale of q[r, h] / sqrt(num_heads * head_dim)
 *
 * A vector that is not finite has zeros for values and NaN for its scale. */
typedef struct foveal_indexer_prepare_params {
  uint32_t struct_size; /* sizeof(foveal_indexer_prepare_params) */
  int32_t num_seqs;
  int32_t num_rows;
  int32_t num_heads; /* of q; 8, 16, 32 or 64 */
  int32_t head_dim;  /* 32, 64 or 128 */
  const void* q;     /* bf16 [num_rows, num_heads, head_dim], heads dense; null: keys alone, as
                        where no row is scored */
  int64_t q_row_stride;
  const float* weights; /* [num_rows, num_heads], as projected */
  int64_t weights_row_stride;
  const void* k; /* bf16 [num_rows, head_dim] */
  int64_t k_row_stride;

  const int32_t* cu_q;       /* device [num_seqs + 1], or null: one row a sequence */
  const int32_t* kv_len;     /* device [num_seqs] */
  const int32_t* page_table; /* device [num_seqs, page_table_stride] */
  int64_t page_table_stride;

  foveal_index_keys keys;
  void* q_out;        /* e4m3 [num_rows, num_heads, head_dim], dense, 16-byte aligned */
  float* weights_out; /* [num_rows, num_heads], dense, 16-byte aligned */
} foveal_indexer_prepare_params;

foveal_status foveal_indexer_prepare(const foveal_indexer_prepare_params* params, void* cuda_stream,
                                     char* message, size_t message_size);

/* The score of key t of row r's sequence,
 *
 *     scores[r - row_begin, t] = scale of key t * sum over heads of weights[r, h] *
 *                                max(0, q[r, h] . key t)
 *
 * in float32, for rows row_begin to row_begin + row_count, and of each the keys that it sees: those
 * up to its own, or with row_end the first row_end[r], never more than kv_len. Nothing else of
 * `scores` is written; a row at a position below first_position gets none (its k best are all).
 * A product that is NaN counts as 0, which leaves the scales to carry what was not finite.
 *
 * A score is the same bits whatever the batch, the chunk and the page size. Scores of a long
 * prompt are large: cut rows so that row_count * row_stride * 4 bytes fit. */
typedef struct foveal_indexer_scores_params {
  uint32_t struct_size; /* sizeof(foveal_indexer_scores_params) */
  int32_t num_seqs;
  int32_t num_rows;
  int32_t num_heads; /* 8, 16, 32 or 64; fewer: pad q and weights with zeros */
  int32_t head_dim;  /* 32, 64 or 128 */
  const void* q;     /* as foveal_indexer_prepare writes them */
  const float* weights;

  const int32_t* cu_q;
  const int32_t* kv_len;
  const int32_t* page_table;
  int64_t page_table_stride;
  int32_t max_kv_len; /* no sequence has more keys */

  foveal_index_keys keys;

  const int32_t* row_end; /* device [num_rows], or null: causal */
  int32_t first_position; /* without row_end: rows before it are not scored */
  int32_t row_begin;
  int32_t row_count;
  float* scores;      /* out: device [row_count, row_stride] */
  int64_t row_stride; /* max_kv_len or more */
} foveal_indexer_scores_params;

foveal_status foveal_indexer_scores(const foveal_indexer_scores_params* params, void* cuda_stream,
                                    char* message, size_t message_size);

#ifdef __cplusplus
}
#endif

#endif /* FOVEAL_KERNELS_INDEXER_H_ */

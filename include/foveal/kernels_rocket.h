#ifndef FOVEAL_KERNELS_ROCKET_H_
#define FOVEAL_KERNELS_ROCKET_H_

/* RocketKV (arXiv 2502.14051) on CUDA, in the manner of foveal/kernels.h: which tokens of a prompt
 * are kept, their copy into fresh pages, and decode over the best pages of what was kept. */

#include "foveal/kernels.h"
#include "foveal/kernels_top_k.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What page bounds are stored as; both are rounded outward, so that they still bound. */
typedef enum foveal_bound_dtype { FOVEAL_BOUND_BF16 = 0, FOVEAL_BOUND_E5M2 = 1 } foveal_bound_dtype;

/* What stands for a page's keys: in each channel the least and the largest value, or the mean less
 * and plus half the standard deviation. */
typedef enum foveal_bound_kind {
  FOVEAL_BOUND_MIN_MAX = 0,
  FOVEAL_BOUND_MEAN_STD = 1
} foveal_bound_kind;

/* The lane of page bounds, under the page table of K and V. A scoring page is page_tokens
 * consecutive tokens of a sequence; for each cache page the lane holds
 *
 *     [num_kv_heads][page_size / page_tokens][2][head_dim]
 *
 * least values of each channel first, then the largest, of the keys as stored (of e4m3 keys:
 * without k_scale). */
typedef struct foveal_page_bounds {
  void* data;
  int64_t page_stride; /* elements from one cache page to the next */
  int32_t dtype;       /* foveal_bound_dtype */
  int32_t page_tokens; /* a power of two that divides the cache's page_size */
  int32_t kind;        /* foveal_bound_kind */
} foveal_page_bounds;

/* Which tokens of a prompt each KV head keeps, of one sequence in one layer. Over all keys that a
 * window query sees,
 *
 *     score[j] = sum over the window's queries of the KV head's query heads of softmax(q k), j in
 *                [0, prompt_len - window)
 *     pooled[j] = the largest of score[j - kernel_size / 2 .. j + kernel_size / 2]
 *
 * and kept are the first sink_tokens, the window's tokens, and those of the largest pooled score,
 * of equals the lowest; budget in all. A prompt of no more tokens keeps all. How the prompt was cut
 * into chunks does not show. */
typedef struct foveal_rocket_prompt_params {
  uint32_t struct_size; /* sizeof(foveal_rocket_prompt_params) */
  int32_t q_dtype;      /* as in foveal_attention_params */
  int32_t kv_dtype;
  const void* q; /* [window, num_heads, head_dim]: the query of position p is row p % window */
  int64_t q_row_stride;
  int64_t q_head_stride;
  const void* k; /* as in foveal_attention_params, in pages */
  int64_t k_page_stride;
  int64_t k_head_stride;
  int64_t k_token_stride;
  const int32_t* page_table; /* device: the prompt's pages */
  int32_t num_heads;
  int32_t num_kv_heads;
  int32_t head_dim; /* 64, 96, 128, 192 or 256 */
  int32_t page_size;
  int32_t prompt_len;
  int32_t window;
  int32_t budget; /* more than window and sink_tokens */
  int32_t sink_tokens;
  int32_t kernel_size; /* odd, up to 4095 */
  float softmax_scale;
  float q_scale;
  float k_scale;
  int32_t* kept; /* out: device [num_kv_heads, budget] positions, ascending; a shorter prompt fills
                    prompt_len of each row */
  float* scores; /* out: device [num_kv_heads, prompt_len - window], or null; not of a prompt that
                    keeps all */
  void* workspace; /* device, 256-byte aligned */
  size_t workspace_bytes;
} foveal_rocket_prompt_params;

foveal_status foveal_rocket_prompt(const foveal_rocket_prompt_params* params, void* cuda_stream,
                                   char* message, size_t message_size);
size_t foveal_rocket_prompt_workspace(const foveal_rocket_prompt_params* params);

/* Copies rows of K and V, kept[h][i] of each KV head to slot i, from one page table's pages to
 * another's; the two have none in common. */
typedef struct foveal_compact_params {
  uint32_t struct_size; /* sizeof(foveal_compact_params) */
  int32_t kv_dtype;
  void* k; /* the pool, as in foveal_attention_params */
  int64_t k_page_stride;
  int64_t k_head_stride;
  int64_t k_token_stride;
  void* v;
  int64_t v_page_stride;
  int64_t v_head_stride;
  int64_t v_token_stride;
  int32_t num_kv_heads;
  int32_t head_dim;
  int32_t page_size;
  int32_t num_tokens;  /* of each KV head */
  const int32_t* kept; /* device [num_kv_heads, kept_stride] */
  int64_t kept_stride;
  const int32_t* from_pages; /* device */
  const int32_t* to_pages;   /* device */
} foveal_compact_params;

foveal_status foveal_rocket_compact(const foveal_compact_params* params, void* cuda_stream,
                                    char* message, size_t message_size);

/* The scoring pages below `end_page` in which kept tokens lie, as foveal_rocket_params.candidates
 * has them: for each KV head their number and then themselves, ascending. */
typedef struct foveal_candidates_params {
  uint32_t struct_size; /* sizeof(foveal_candidates_params) */
  int32_t num_kv_heads;
  int32_t num_tokens; /* of each KV head */
  int32_t page_tokens;
  int32_t end_page;
  const int32_t* kept; /* device [num_kv_heads, kept_stride], ascending */
  int64_t kept_stride;
  int32_t* candidates;       /* out: device [num_kv_heads, candidates_stride] */
  int64_t candidates_stride; /* more than num_tokens */
  int32_t* first_own;        /* out: device: end_page; or null */
} foveal_candidates_params;

foveal_status foveal_rocket_candidates(const foveal_candidates_params* params, void* cuda_stream,
                                       char* message, size_t message_size);

/* Bounds of the pages that hold each sequence's newest tokens, from their keys: of a page that an
 * earlier call began, all of it. */
typedef struct foveal_bounds_params {
  uint32_t struct_size; /* sizeof(foveal_bounds_params) */
  int32_t kv_dtype;     /* foveal_dtype */
  const void* k;        /* as in foveal_attention_params, in pages */
  int64_t k_page_stride;
  int64_t k_head_stride;
  int64_t k_token_stride;
  int32_t num_seqs;
  int32_t num_kv_heads;
  int32_t head_dim;
  int32_t page_size;
  int32_t max_q_len;     /* no sequence has more new tokens */
  const int32_t* cu_q;   /* device [num_seqs + 1], or null: the last cu_q[s + 1] - cu_q[s] tokens
                            are new; null: all are */
  const int32_t* kv_len; /* device [num_seqs] */
  const int32_t* page_table; /* device [num_seqs, page_table_stride] */
  int64_t page_table_stride;
  foveal_page_bounds bounds;
} foveal_bounds_params;

foveal_status foveal_rocket_bounds(const foveal_bounds_params* params, void* cuda_stream,
                                   char* message, size_t message_size);

/* Decode of one query a sequence over the best pages of each KV head. The bounds of the newest
 * page are computed first, from its keys; all other bounds must be there. Then, with I the
 * num_channels channels of the largest sum over the group of |q| (of equals the lowest),
 *
 *     s[h][P] = scale t[h] sum over I of q[h][i] b[i][P]
 *     b[i][P] = the largest value of page P where the sum over the group of q[h][i] is > 0,
 *               else the least
 *     t[h]    = sqrt(sum of |q[h][i]| over all channels / over I)
 *     rank[P] = sum (or, with FOVEAL_ROCKET_GROUP_MAX, largest) over the group of softmax over
 *               pages of s
 *
 * and attended to are, exactly and at most topk, the newest page, the first sink_pages and the
 * last recent_pages, and the best of the others, of equals the lowest. Where all pages are, the
 * result is foveal_attention_decode's, bit for bit if that holds for the whole batch or splits are
 * fixed.
 *
 * With `candidates` a sequence whose pointer is not null considers, below a page that it names, the
 * listed pages alone, and all from there on. Sinks and recent pages are counted among those. */
typedef struct foveal_rocket_params {
  uint32_t struct_size;              /* sizeof(foveal_rocket_params) */
  int32_t topk;                      /* pages a KV head attends to, 1 or more */
  foveal_attention_params attention; /* as for foveal_attention_decode, but for its workspace,
                                        which is foveal_rocket_decode_workspace's; paged; no window
                                        and no skip_factor. counters: query-key pairs, pairs used,
                                        pages of all KV heads, pages not attended to */
  foveal_page_bounds bounds;         /* e5m2, or bf16 with bf16 queries */
  int32_t num_channels;              /* query channels that scores use; 0: head_dim */
  int32_t sink_pages;
  int32_t recent_pages; /* the newest one included, which is always in */

  const int32_t* const* candidates; /* device [num_seqs], or null: each null or where the first page
                                       lies from which on all are considered. The list of KV head h
                                       begins candidates_offset + h * candidates_stride after it
                                       with its number of pages, which follow, ascending */
  int64_t candidates_offset;
  int64_t candidates_stride;

  int32_t* pages; /* out: device [num_seqs, num_kv_heads, topk], ascending, or null */
  int32_t* count; /* out: device [num_seqs, num_kv_heads], pages of each, or null */
  float* ranks;   /* out: device [num_seqs, num_kv_heads, ranks_stride], or null: what pages were
                     ranked by, in the order of candidates; not written where all are taken */
  int64_t ranks_stride;
  uint32_t flags; /* FOVEAL_ROCKET_... */
} foveal_rocket_params;

#define FOVEAL_ROCKET_GROUP_MAX 1u /* the group's largest softmax instead of the sum */
/* No attention: fills pages and count alone (q is read, out not). */
#define FOVEAL_ROCKET_SELECT 2u

foveal_status foveal_rocket_decode(const foveal_rocket_params* params, void* cuda_stream,
                                   char* message, size_t message_size);
/* Bytes of attention.workspace, zeroed once. */
size_t foveal_rocket_decode_workspace(const foveal_rocket_params* params);

#ifdef __cplusplus
}
#endif

#endif /* FOVEAL_KERNELS_ROCKET_H_ */

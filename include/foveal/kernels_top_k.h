#ifndef FOVEAL_KERNELS_TOP_K_H_
#define FOVEAL_KERNELS_TOP_K_H_

/* The k largest of each row of float32 values on CUDA, exact, in the manner of foveal/kernels.h. */

#include "foveal/kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Bits of foveal_top_k_params.flags. */
#define FOVEAL_TOP_K_RADIX 1u /* every row by radix selection, which no guess can fail */

/* Of each row the k largest values, of equals those of the lowest indices: their indices,
 * ascending, then -1 up to k. NaN counts as -inf, so it is never taken before a number above that;
 * -0 equals +0. What is taken and how it is ordered depends on the values alone, not on the device,
 * the batch or the run.
 *
 * Values of row r are columns [starts[i], lengths[i]) with i = r / rows_a_length: [0, lengths[i])
 * without starts, [0, max_length) without lengths. Indices count from the first of them. A row of
 * no more than k values is taken whole. Lengths are read on the device and held within max_length.
 */
typedef struct foveal_top_k_params {
  uint32_t struct_size; /* sizeof(foveal_top_k_params), or FOVEAL_TOP_K_SIZE_1 */
  int32_t num_rows;
  const float* values; /* device [num_rows, row_stride] */
  int64_t row_stride;
  const int32_t* lengths; /* device: where values of row r end; or null */
  int32_t rows_a_length;  /* 1 or more where lengths, starts or slots are given */
  int32_t max_length;     /* no row has more values; up to 2^20 */
  int32_t k;
  int32_t* indices; /* out: device [num_rows, indices_stride]; or null where slots are given */
  int64_t indices_stride; /* at least k */
  int32_t* counts;        /* out: device [num_rows], those taken; or null */

  /* What FOVEAL_TOP_K_SIZE_1 does not cover counts as 0. */
  uint32_t flags;
  int32_t page_size;
  const int32_t* starts;     /* device: where values of row r begin; or null: 0 */
  int32_t* slots;            /* out: device [num_rows, indices_stride], or null: for index i
                                page_table[s][i / page_size] * page_size + i % page_size */
  const int32_t* page_table; /* device */
  int64_t page_table_stride;
  const int32_t* row_seq; /* device [num_rows]: the s of each row; or null: r / rows_a_length */
  uint64_t* counters;     /* device [2], added to, or null: rows, and those of them for which the
                             guess failed, so that radix selection went over them again (few rows
                             narrow a failed guess instead, which does not count) */
} foveal_top_k_params;

#define FOVEAL_TOP_K_SIZE_1 offsetof(foveal_top_k_params, flags)

foveal_status foveal_top_k(const foveal_top_k_params* params, void* cuda_stream, char* message,
                           size_t message_size);

#ifdef __cplusplus
}
#endif

#endif /* FOVEAL_KERNELS_TOP_K_H_ */

#pragma once

#include <cstdint>

#include "foveal/kernels_mla.h"

// What latent attention in the form of heads needs beside its products and prefill_heads. `stream`
// is a cudaStream_t of the current device.

namespace foveal::kernels::cuda {

/// The cached rows of sequences, one after the other, as bf16; and where each sequence begins.
struct LatentContextParams {
  foveal_latent_cache cache;
  const int32_t* kv_len;      ///< [num_seqs]
  const int32_t* page_table;  ///< [num_seqs, page_table_stride]
  int64_t page_table_stride;
  int32_t num_seqs;
  int32_t num_rows;  ///< of all sequences together
  int32_t* starts;   ///< out: [num_seqs + 1]
  uint16_t* rows;    ///< out: [num_rows, FOVEAL_MLA_HEAD_DIM]
};
void latent_context(const LatentContextParams& params, void* stream);

/// Of each head what makes its keys of a latent and what makes its values, under one another:
/// [heads, nope_dim + value_dim, rank], from W_UK^T [heads, rank, nope_dim] and W_UV [heads,
/// value_dim, rank], all bf16.
struct HeadWeightsParams {
  const uint16_t* to_latent;
  const uint16_t* to_values;
  uint16_t* out;
  int32_t num_heads;
  int32_t nope_dim;
  int32_t value_dim;
  int32_t rank;  ///< and the other two: multiples of 8
};
void head_weights(const HeadWeightsParams& params, void* stream);

}  // namespace foveal::kernels::cuda

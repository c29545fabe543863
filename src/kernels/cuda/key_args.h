#pragma once

#include <bit>
#include <cstdint>
#include <numbers>

#include "foveal/kernels.h"
#include "kernels/cuda/attention_check.h"

// What kernels' arguments and calls' parameters of several families call alike.

namespace foveal::kernels::cuda {

/// log2 of the page size; 0 without a table.
inline int32_t page_shift_of(const int32_t* page_table, int32_t page_size) {
  return page_table == nullptr ? 0 : std::countr_zero(static_cast<uint32_t>(page_size));
}

/// Lengths of sequences, and the pages that their keys are in.
template <class Args>
void set_sequences(Args& args, const foveal_attention_params& p) {
  args.num_seqs = p.num_seqs;
  args.kv_len = p.kv_len;
  args.page_table = p.page_table;
  args.page_table_stride = p.page_table_stride;
  args.page_shift = page_shift_of(p.page_table, p.page_size);
}

/// Queries, keys and the factor of their products in the log2 domain.
template <class Args, class Params>
void set_scores(Args& args, const Params& p) {
  const int64_t q_bytes = element_bytes(p.q_dtype);
  const int64_t kv_bytes = element_bytes(p.kv_dtype);
  args.q = static_cast<const char*>(p.q);
  args.q_row_bytes = p.q_row_stride * q_bytes;
  args.q_head_bytes = p.q_head_stride * q_bytes;
  args.q_dtype = p.q_dtype;
  args.k = static_cast<const char*>(p.k);
  args.k_page_bytes = p.k_page_stride * kv_bytes;
  args.k_head_bytes = p.k_head_stride * kv_bytes;
  args.k_token_bytes = p.k_token_stride * kv_bytes;
  args.scale_log2 = p.softmax_scale * std::numbers::log2e_v<float> *
                    (p.kv_dtype == FOVEAL_E4M3 ? p.k_scale : 1.0F) *
                    (p.q_dtype == FOVEAL_E4M3 ? p.q_scale : 1.0F);
}

}  // namespace foveal::kernels::cuda

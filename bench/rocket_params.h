#pragma once

#include "foveal/kernels_rocket.h"

namespace foveal::bench {

/// The call that makes the bounds of all pages which a decode call reads.
inline foveal_bounds_params bounds_of_all(const foveal_rocket_params& rocket) {
  const foveal_attention_params& a = rocket.attention;
  return {.struct_size = sizeof(foveal_bounds_params),
          .kv_dtype = a.kv_dtype,
          .k = a.k,
          .k_page_stride = a.k_page_stride,
          .k_head_stride = a.k_head_stride,
          .k_token_stride = a.k_token_stride,
          .num_seqs = a.num_seqs,
          .num_kv_heads = a.num_kv_heads,
          .head_dim = a.head_dim,
          .page_size = a.page_size,
          .max_q_len = a.max_kv_len,
          .cu_q = nullptr,
          .kv_len = a.kv_len,
          .page_table = a.page_table,
          .page_table_stride = a.page_table_stride,
          .bounds = rocket.bounds};
}

}  // namespace foveal::bench

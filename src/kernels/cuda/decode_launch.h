#pragma once

#include "foveal/kernels.h"
#include "kernels/cuda/decode_choose.h"
#include "kernels/cuda/sm90/decode_args.h"

namespace foveal::kernels::cuda {

/// The kernel of a choice, by KV dtype; null where none is compiled.
const void* decode_kernel_bf16(const DecodeShape& shape);
const void* decode_kernel_f16(const DecodeShape& shape);
const void* decode_kernel_e4m3(const DecodeShape& shape);

/// The same over listed pages.
const void* decode_listed_kernel_bf16(const DecodeShape& shape);
const void* decode_listed_kernel_f16(const DecodeShape& shape);
const void* decode_listed_kernel_e4m3(const DecodeShape& shape);

/// The pages that each (sequence, KV head) attends to, all of `page_tokens` tokens, a power of two,
/// but for the last, which may be partly filled.
struct PageLists {
  const int32_t* slots;    ///< [num_seqs, num_kv_heads, stride] pages by their place in the pool
  int64_t stride;          ///< most pages of a list
  const int32_t* lengths;  ///< [num_seqs] tokens of its longest list
  const int32_t* row_lengths;  ///< [num_seqs, num_kv_heads] tokens of each
  int32_t page_tokens;
};

/// Decode over listed pages. `params` holds what decode_check and rocket_check ask for; the
/// workspace is decode_workspace_bytes' of listed_params.
void attention_decode_listed(const foveal_attention_params& params, const PageLists& lists,
                             void* stream);

/// The sizes that decode over lists of `stride` pages has: of sequences no longer than a list.
foveal_attention_params listed_params(const foveal_attention_params& params, int64_t stride,
                                      int32_t page_tokens);

/// The kernels' arguments from the caller's parameters.
DecodeArgs decode_args(const foveal_attention_params& params, const DecodeChoice& choice);

}  // namespace foveal::kernels::cuda

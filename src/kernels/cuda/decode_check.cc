#include <array>

#include "base/check.h"
#include "kernels/cuda/attention_check.h"
#include "kernels/cuda/decode_choose.h"

namespace foveal::kernels::cuda {

namespace {

constexpr std::string_view kWhere = "attention_decode";

void check_rows(const foveal_attention_params& params) {
  FOVEAL_CHECK(params.num_rows == params.num_seqs, ErrorKind::kInvalidArgument, kWhere,
               "got {} rows for {} sequences; need one row a sequence", params.num_rows,
               params.num_seqs);
  const int32_t passes = decode_passes(params.num_heads / params.num_kv_heads, params.head_dim);
  const int64_t rows = static_cast<int64_t>(params.num_seqs) * params.num_kv_heads * passes;
  FOVEAL_CHECK(rows <= kMaxDecodeRows, ErrorKind::kUnsupported, kWhere,
               "got {} sequences of {} KV heads in {} passes; need a product of at most {}",
               params.num_seqs, params.num_kv_heads, passes, kMaxDecodeRows);
  FOVEAL_CHECK(rows * params.max_kv_len < int64_t{kMaxDecodeRows} << 20, ErrorKind::kUnsupported,
               kWhere, "got {} rows of up to {} keys; need fewer than 2^36 keys in all", rows,
               params.max_kv_len);
  FOVEAL_CHECK(params.split_keys >= 0 && params.split_keys % kDecodeVoteKeys == 0,
               ErrorKind::kInvalidArgument, kWhere, "got split_keys {}; need a multiple of {}",
               params.split_keys, kDecodeVoteKeys);
}

}  // namespace

void decode_check_sizes(const foveal_attention_params& params) {
  check_sizes(params, kWhere);
  check_rows(params);
}

void decode_check(const foveal_attention_params& params) {
  decode_check_sizes(params);
  check_attention(params, kWhere);
  check_workspace(params.workspace, params.workspace_bytes,
                  decode_choose(params, kMaxDecodeGrid).workspace.bytes, kWhere);
}

}  // namespace foveal::kernels::cuda

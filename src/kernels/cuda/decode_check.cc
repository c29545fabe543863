#include <algorithm>
#include <array>

#include "base/error.h"
#include "kernels/cuda/decode_choose.h"

namespace foveal::kernels::cuda {

namespace {

constexpr std::string_view kWhere = "decode";

template <class... Args>
void need(bool holds, fmt::format_string<Args...> format, Args&&... args) {
  if (!holds) fail(ErrorKind::kInvalidArgument, kWhere, format, std::forward<Args>(args)...);
}

bool aligned(const void* pointer) { return reinterpret_cast<uintptr_t>(pointer) % 16 == 0; }

void check_dtypes(const foveal_attention_params& params) {
  const int32_t q = params.q_dtype;
  const int32_t kv = params.kv_dtype;
  const bool wide = q == FOVEAL_BF16 || q == FOVEAL_F16;
  need((wide && kv == q) || (kv == FOVEAL_E4M3 && (wide || q == FOVEAL_E4M3)),
       "got q_dtype {} with kv_dtype {}; need bf16 or f16 with the same or e4m3, or e4m3 with e4m3", q,
       kv);
}

void check_sizes(const foveal_attention_params& params) {
  constexpr std::array kHeadDims{64, 96, 128, 192, 256};
  need(params.num_seqs > 0 && params.num_rows == params.num_seqs,
       "got {} sequences and {} rows; need one row a sequence, at least one", params.num_seqs,
       params.num_rows);
  need(params.num_kv_heads > 0 && params.num_heads > 0 && params.num_heads % params.num_kv_heads == 0,
       "got {} heads and {} KV heads; need a multiple", params.num_heads, params.num_kv_heads);
  if (params.num_heads / params.num_kv_heads > kMaxGroup) {
    fail(ErrorKind::kUnsupported, kWhere, "got {} query heads a KV head; need at most {}",
         params.num_heads / params.num_kv_heads, kMaxGroup);
  }
  if (std::find(kHeadDims.begin(), kHeadDims.end(), params.head_dim) == kHeadDims.end()) {
    fail(ErrorKind::kUnsupported, kWhere, "got head_dim {}; need 64, 96, 128, 192 or 256",
         params.head_dim);
  }
  need(params.max_kv_len >= 0 && params.window >= 0, "got max_kv_len {} and window {}; need 0 or more",
       params.max_kv_len, params.window);
  need(params.split_keys >= 0 && params.split_keys % kDecodeVoteKeys == 0,
       "got split_keys {}; need a multiple of {}", params.split_keys, kDecodeVoteKeys);
}

void check_memory(const foveal_attention_params& params) {
  need(params.q != nullptr && params.out != nullptr && params.k != nullptr && params.v != nullptr &&
           params.kv_len != nullptr,
       "got a null q, out, k, v or kv_len; need all of them");
  if (params.page_table != nullptr) {
    const int32_t size = params.page_size;
    need(size == 16 || size == 32 || size == 64 || size == 128,
         "got page_size {}; need 16, 32, 64 or 128", size);
  } else {
    need(params.cu_k != nullptr, "got neither page_table nor cu_k; need one of them");
  }
  const int64_t kv = params.kv_dtype == FOVEAL_E4M3 ? 1 : 2;
  const int64_t q = params.q_dtype == FOVEAL_E4M3 ? 1 : 2;
  const std::array<int64_t, 10> bytes{
      params.k_page_stride * kv, params.k_head_stride * kv, params.k_token_stride * kv,
      params.v_page_stride * kv, params.v_head_stride * kv, params.v_token_stride * kv,
      params.q_row_stride * q,   params.q_head_stride * q,  params.out_row_stride * 2,
      params.out_head_stride * 2};
  need(aligned(params.q) && aligned(params.out) && aligned(params.k) && aligned(params.v) &&
           std::all_of(bytes.begin(), bytes.end(), [](int64_t b) { return b % 16 == 0; }),
       "got a pointer or stride off 16 bytes; need q, out, k and v and their strides at multiples");
  const size_t workspace = decode_choose(params, kMaxDecodeGrid).workspace.bytes;
  need(params.workspace != nullptr && reinterpret_cast<uintptr_t>(params.workspace) % 256 == 0 &&
           params.workspace_bytes >= workspace,
       "got {} bytes of workspace; need {} at a multiple of 256", params.workspace_bytes, workspace);
}

}  // namespace

void decode_check(const foveal_attention_params& params) {
  need(params.struct_size == sizeof(foveal_attention_params),
       "got a parameter struct of {} bytes; need {}", params.struct_size,
       sizeof(foveal_attention_params));
  check_dtypes(params);
  check_sizes(params);
  check_memory(params);
}

}  // namespace foveal::kernels::cuda

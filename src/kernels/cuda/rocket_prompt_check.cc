#include <bit>
#include <cmath>
#include <string_view>

#include "base/check.h"
#include "kernels/cuda/attention_check.h"
#include "kernels/cuda/rocket.h"
#include "kernels/cuda/rocket_launch.h"

namespace foveal::kernels::cuda {
namespace {

constexpr auto kBad = ErrorKind::kInvalidArgument;
constexpr std::string_view kHeader = "foveal/kernels_rocket.h";
constexpr int32_t kMostPrompt = 1 << 20;

void check_rows(const void* pointer, int64_t head_stride, int64_t token_stride, int32_t head_dim,
                int32_t dtype, std::string_view name, std::string_view where) {
  const int64_t multiple = dtype == FOVEAL_E4M3 ? 16 : 8;
  FOVEAL_CHECK(pointer != nullptr && reinterpret_cast<uintptr_t>(pointer) % 16 == 0 &&
                   head_stride >= head_dim && token_stride >= head_dim &&
                   head_stride % multiple == 0 && token_stride % multiple == 0,
               kBad, where,
               "got {} at {} with strides {} and {}; need 16-byte aligned rows of at least {}",
               name, fmt::ptr(pointer), head_stride, token_stride, head_dim);
}

void check_cache(int32_t kv_dtype, int32_t num_kv_heads, int32_t head_dim, int32_t page_size,
                 std::string_view where) {
  FOVEAL_CHECK(kv_dtype >= FOVEAL_BF16 && kv_dtype <= FOVEAL_E4M3, kBad, where,
               "got kv_dtype {}; need FOVEAL_BF16, FOVEAL_F16 or FOVEAL_E4M3", kv_dtype);
  FOVEAL_CHECK(num_kv_heads >= 1 && num_kv_heads <= 65535, kBad, where,
               "got num_kv_heads {}; need 1 to 65535", num_kv_heads);
  FOVEAL_CHECK(head_dim >= 16 && head_dim % 16 == 0, ErrorKind::kUnsupported, where,
               "got head_dim {}; need a multiple of 16", head_dim);
  FOVEAL_CHECK(page_size >= 1 && std::has_single_bit(static_cast<uint32_t>(page_size)), kBad, where,
               "got page_size {}; need a power of two", page_size);
}

void check_choice(const foveal_rocket_prompt_params& p, std::string_view where) {
  FOVEAL_CHECK(p.prompt_len >= 1 && p.prompt_len <= kMostPrompt, ErrorKind::kUnsupported, where,
               "got prompt_len {}; need 1 to {}", p.prompt_len, kMostPrompt);
  FOVEAL_CHECK(p.window >= 1 && p.sink_tokens >= 0 &&
                   p.budget > static_cast<int64_t>(p.window) + p.sink_tokens,
               kBad, where, "got budget {}; need more than window {} and sink_tokens {}", p.budget,
               p.window, p.sink_tokens);
  FOVEAL_CHECK(p.kernel_size >= 1 && p.kernel_size % 2 == 1 && p.kernel_size <= kMostPoolKernel,
               kBad, where, "got kernel_size {}; need an odd number up to {}", p.kernel_size,
               kMostPoolKernel);
}

}  // namespace

void rocket_prompt_check_sizes(const foveal_rocket_prompt_params& p) {
  constexpr std::string_view kWhere = "rocket_prompt";
  check_struct_size(p.struct_size, sizeof(p), kHeader, kWhere);
  check_cache(p.kv_dtype, p.num_kv_heads, p.head_dim, p.page_size, kWhere);
  check_head_dim(p.head_dim, kWhere);
  FOVEAL_CHECK(p.num_heads >= 1 && p.num_heads % p.num_kv_heads == 0, kBad, kWhere,
               "got {} heads over {} KV heads; need a multiple", p.num_heads, p.num_kv_heads);
  FOVEAL_CHECK(
      p.q_dtype == p.kv_dtype ||
          (p.kv_dtype == FOVEAL_E4M3 && p.q_dtype >= FOVEAL_BF16 && p.q_dtype <= FOVEAL_F16),
      ErrorKind::kUnsupported, kWhere,
      "got q_dtype {} with kv_dtype {}; need the same, or e4m3 keys", p.q_dtype, p.kv_dtype);
  check_choice(p, kWhere);
}

void rocket_prompt_check(const foveal_rocket_prompt_params& p) {
  constexpr std::string_view kWhere = "rocket_prompt";
  rocket_prompt_check_sizes(p);
  check_rows(p.q, p.q_head_stride, p.q_row_stride, p.head_dim, p.q_dtype, "q", kWhere);
  check_rows(p.k, p.k_head_stride, p.k_token_stride, p.head_dim, p.kv_dtype, "k", kWhere);
  const bool scales = std::isfinite(p.softmax_scale) && std::isfinite(p.k_scale) &&
                      std::isfinite(p.q_scale) && p.k_scale > 0 && p.q_scale > 0;
  FOVEAL_CHECK(scales, kBad, kWhere,
               "got softmax_scale {}, q_scale {}, k_scale {}; need finite ones", p.softmax_scale,
               p.q_scale, p.k_scale);
  FOVEAL_CHECK(p.page_table != nullptr && p.kept != nullptr, kBad, kWhere,
               "got no page_table or kept; need both");
  check_workspace(p.workspace, p.workspace_bytes, rocket_prompt_workspace_bytes(p), kWhere);
}

void rocket_compact_check(const foveal_compact_params& p) {
  constexpr std::string_view kWhere = "rocket_compact";
  check_struct_size(p.struct_size, sizeof(p), kHeader, kWhere);
  check_cache(p.kv_dtype, p.num_kv_heads, p.head_dim, p.page_size, kWhere);
  check_rows(p.k, p.k_head_stride, p.k_token_stride, p.head_dim, p.kv_dtype, "k", kWhere);
  check_rows(p.v, p.v_head_stride, p.v_token_stride, p.head_dim, p.kv_dtype, "v", kWhere);
  FOVEAL_CHECK(p.kept != nullptr && p.from_pages != nullptr && p.to_pages != nullptr, kBad, kWhere,
               "got no kept, from_pages or to_pages; need all");
  FOVEAL_CHECK(p.num_tokens >= 1 && p.kept_stride >= p.num_tokens, kBad, kWhere,
               "got num_tokens {} and kept_stride {}; need 1 or more and as much", p.num_tokens,
               p.kept_stride);
}

void rocket_candidates_check(const foveal_candidates_params& p) {
  constexpr std::string_view kWhere = "rocket_candidates";
  check_struct_size(p.struct_size, sizeof(p), kHeader, kWhere);
  FOVEAL_CHECK(p.num_kv_heads >= 1 && p.num_tokens >= 1 && p.page_tokens >= 1 && p.end_page >= 0,
               kBad, kWhere, "got num_kv_heads {}, num_tokens {}, page_tokens {}, end_page {}",
               p.num_kv_heads, p.num_tokens, p.page_tokens, p.end_page);
  FOVEAL_CHECK(p.kept_stride >= p.num_tokens && p.candidates_stride > p.num_tokens, kBad, kWhere,
               "got kept_stride {} and candidates_stride {}; need {} and more", p.kept_stride,
               p.candidates_stride, p.num_tokens);
  FOVEAL_CHECK(p.kept != nullptr && p.candidates != nullptr, kBad, kWhere,
               "got no kept or candidates; need both");
}

}  // namespace foveal::kernels::cuda

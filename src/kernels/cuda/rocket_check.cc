#include "kernels/cuda/rocket.h"

#include <bit>
#include <string_view>

#include "base/check.h"
#include "base/math.h"
#include "kernels/cuda/attention_check.h"
#include "kernels/cuda/decode_choose.h"
#include "kernels/cuda/sm90/rocket_args.h"

namespace foveal::kernels::cuda {
namespace {

constexpr std::string_view kWhere = "rocket_decode";
constexpr auto kBad = ErrorKind::kInvalidArgument;

/// `page_size`: of the cache.
void check_bounds_sizes(const foveal_page_bounds& bounds, int32_t page_size,
                        std::string_view where) {
  FOVEAL_CHECK(bounds.dtype == FOVEAL_BOUND_BF16 || bounds.dtype == FOVEAL_BOUND_E5M2, kBad, where,
               "got bounds.dtype {}; need FOVEAL_BOUND_BF16 or FOVEAL_BOUND_E5M2", bounds.dtype);
  FOVEAL_CHECK(bounds.kind == FOVEAL_BOUND_MIN_MAX || bounds.kind == FOVEAL_BOUND_MEAN_STD, kBad,
               where, "got bounds.kind {}; need FOVEAL_BOUND_MIN_MAX or FOVEAL_BOUND_MEAN_STD",
               bounds.kind);
  const int32_t tokens = bounds.page_tokens;
  FOVEAL_CHECK(
      tokens >= 1 && tokens <= page_size && std::has_single_bit(static_cast<uint32_t>(tokens)),
      kBad, where, "got bounds.page_tokens {}; need a power of two up to page_size {}", tokens,
      page_size);
}

void check_lane(const foveal_page_bounds& bounds, int32_t page_size, int32_t num_kv_heads,
                int32_t head_dim, std::string_view where) {
  const int64_t stored = bounds.dtype == FOVEAL_BOUND_BF16 ? 2 : 1;
  const int64_t need = int64_t{2} * num_kv_heads * head_dim * (page_size / bounds.page_tokens);
  FOVEAL_CHECK(bounds.data != nullptr && reinterpret_cast<uintptr_t>(bounds.data) % 16 == 0 &&
                   bounds.page_stride >= need && bounds.page_stride * stored % 16 == 0,
               kBad, where,
               "got bounds.data {} and bounds.page_stride {}; need 16-byte aligned ones and at "
               "least {} elements",
               fmt::ptr(bounds.data), bounds.page_stride, need);
}

void check_selection(const foveal_rocket_params& p) {
  FOVEAL_CHECK(p.topk >= 1, kBad, kWhere, "got topk {}; need 1 or more", p.topk);
  FOVEAL_CHECK(p.num_channels >= 0 && p.num_channels <= p.attention.head_dim, kBad, kWhere,
               "got num_channels {}; need 1 to {} or 0 (all)", p.num_channels,
               p.attention.head_dim);
  FOVEAL_CHECK(
      p.sink_pages >= 0 && p.recent_pages >= 0 && int64_t{p.sink_pages} + p.recent_pages <= p.topk,
      kBad, kWhere, "got {} sink_pages and {} recent_pages; need at most topk {} of both",
      p.sink_pages, p.recent_pages, p.topk);
  constexpr uint32_t kFlags = FOVEAL_ROCKET_GROUP_MAX | FOVEAL_ROCKET_SELECT;
  FOVEAL_CHECK((p.flags & ~kFlags) == 0, kBad, kWhere,
               "got flags {:#x}; need FOVEAL_ROCKET_GROUP_MAX, FOVEAL_ROCKET_SELECT or 0", p.flags);
}

void check_lists(const foveal_rocket_params& p) {
  const auto& a = p.attention;
  check_lane(p.bounds, a.page_size, a.num_kv_heads, a.head_dim, kWhere);
  FOVEAL_CHECK(p.candidates == nullptr || (p.candidates_offset >= 1 && p.candidates_stride >= 2),
               kBad, kWhere,
               "got candidates_offset {} and candidates_stride {}; need 1 and 2 or more",
               p.candidates_offset, p.candidates_stride);
  const int64_t most = ceil_div(a.max_kv_len, p.bounds.page_tokens);
  FOVEAL_CHECK(p.ranks == nullptr || p.ranks_stride >= most, kBad, kWhere,
               "got ranks_stride {}; need the pages of max_kv_len, {}", p.ranks_stride, most);
}

}  // namespace

void rocket_check_sizes(const foveal_rocket_params& p) {
  check_struct_size(p.struct_size, sizeof(p), "foveal/kernels_rocket.h", kWhere);
  decode_check_sizes(p.attention);
  const auto& a = p.attention;
  check_bounds_sizes(p.bounds, a.page_size, kWhere);
  check_selection(p);
  const int32_t heads = a.num_heads / a.num_kv_heads;
  FOVEAL_CHECK(heads <= kMaxRocketHeads, ErrorKind::kUnsupported, kWhere,
               "got {} query heads a KV head; need at most {}", heads, kMaxRocketHeads);
  FOVEAL_CHECK(int64_t{a.num_seqs} * a.num_kv_heads <= 65535, ErrorKind::kUnsupported, kWhere,
               "got {} sequences of {} KV heads; need a product of at most 65535", a.num_seqs,
               a.num_kv_heads);
  FOVEAL_CHECK(p.bounds.dtype == FOVEAL_BOUND_E5M2 || a.q_dtype == FOVEAL_BF16,
               ErrorKind::kUnsupported, kWhere,
               "got bf16 bounds with q_dtype {}; need bf16 queries, or e5m2 bounds", a.q_dtype);
  FOVEAL_CHECK(int64_t{a.num_pages} * a.page_size <= INT32_MAX, ErrorKind::kUnsupported, kWhere,
               "got a pool of {} pages of {} tokens; need fewer than 2^31 tokens", a.num_pages,
               a.page_size);
}

void rocket_bounds_check(const foveal_bounds_params& p) {
  constexpr std::string_view kHere = "rocket_bounds";
  check_struct_size(p.struct_size, sizeof(p), "foveal/kernels_rocket.h", kHere);
  FOVEAL_CHECK(p.num_seqs >= 1 && p.num_seqs <= 65535 && p.num_kv_heads >= 1 &&
                   p.num_kv_heads <= 65535 && p.max_q_len >= 1,
               kBad, kHere, "got num_seqs {}, num_kv_heads {}, max_q_len {}; need 1 or more",
               p.num_seqs, p.num_kv_heads, p.max_q_len);
  FOVEAL_CHECK(p.head_dim >= 8 && p.head_dim % 8 == 0, ErrorKind::kUnsupported, kHere,
               "got head_dim {}; need a multiple of 8", p.head_dim);
  FOVEAL_CHECK(p.kv_dtype >= FOVEAL_BF16 && p.kv_dtype <= FOVEAL_E4M3, kBad, kHere,
               "got kv_dtype {}; need FOVEAL_BF16, FOVEAL_F16 or FOVEAL_E4M3", p.kv_dtype);
  FOVEAL_CHECK(p.page_size >= 1 && std::has_single_bit(static_cast<uint32_t>(p.page_size)), kBad,
               kHere, "got page_size {}; need a power of two", p.page_size);
  check_bounds_sizes(p.bounds, p.page_size, kHere);
  check_lane(p.bounds, p.page_size, p.num_kv_heads, p.head_dim, kHere);
  FOVEAL_CHECK(p.k != nullptr && p.kv_len != nullptr && p.page_table != nullptr, kBad, kHere,
               "got no k, kv_len or page_table; need all");
}

void rocket_check(const foveal_rocket_params& p) {
  rocket_check_sizes(p);
  const auto& a = p.attention;
  check_attention(a, "attention_decode");
  FOVEAL_CHECK(a.page_table != nullptr, ErrorKind::kUnsupported, kWhere,
               "got no page_table; need K and V in pages");
  FOVEAL_CHECK(a.window == 0 && a.skip_factor == 0, ErrorKind::kUnsupported, kWhere,
               "got window {} and skip_factor {}; need 0 for both", a.window, a.skip_factor);
  check_lists(p);
  check_workspace(a.workspace, a.workspace_bytes, rocket_decode_workspace_bytes(p), kWhere);
}

}  // namespace foveal::kernels::cuda

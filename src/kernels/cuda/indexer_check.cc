#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "base/math.h"
#include "kernels/cuda/indexer.h"

namespace foveal::kernels::cuda {
namespace {

constexpr auto kBad = ErrorKind::kInvalidArgument;

constexpr int64_t kMostStride = int64_t{1} << 38;

bool aligned(const void* data) {
  return data != nullptr && reinterpret_cast<uintptr_t>(data) % 16 == 0;
}

/// Of 4-byte elements: a device would stop at one that lies across a boundary.
void check_array(const void* data, std::string_view name, std::string_view where) {
  FOVEAL_CHECK(reinterpret_cast<uintptr_t>(data) % 4 == 0, kBad, where,
               "got {} at an address that is no multiple of 4; need one", name);
}

/// 16-byte aligned rows of `least` elements of 2 bytes.
void check_rows(const void* data, int64_t stride, int64_t least, std::string_view name,
                std::string_view where) {
  FOVEAL_CHECK(aligned(data) && stride >= least && stride % 8 == 0 && stride < kMostStride, kBad,
               where, "got {} {} and {}_row_stride {}; need 16-byte aligned rows of {}", name,
               fmt::ptr(data), name, stride, least);
}

/// What both entries have in common.
template <class Params>
void check_common(const Params& p, std::string_view where) {
  FOVEAL_CHECK(p.struct_size == sizeof(p), kBad, where,
               "got struct_size {}; need {} (a caller built against another "
               "foveal/kernels_indexer.h?)",
               p.struct_size, sizeof(p));
  FOVEAL_CHECK(p.num_seqs >= 1 && p.num_rows >= 1, kBad, where,
               "got num_seqs {} and num_rows {}; need 1 or more", p.num_seqs, p.num_rows);
  FOVEAL_CHECK(p.cu_q != nullptr || p.num_rows == p.num_seqs, kBad, where,
               "got num_rows {} of {} sequences without cu_q; need one each", p.num_rows,
               p.num_seqs);
  FOVEAL_CHECK(p.num_heads == 8 || p.num_heads == 16 || p.num_heads == 32 || p.num_heads == 64,
               ErrorKind::kUnsupported, where, "got num_heads {}; need 8, 16, 32 or 64",
               p.num_heads);
  FOVEAL_CHECK(p.head_dim == 32 || p.head_dim == 64 || p.head_dim == 128, ErrorKind::kUnsupported,
               where, "got head_dim {}; need 32, 64 or 128", p.head_dim);
  FOVEAL_CHECK(int64_t{p.num_rows} * p.num_heads <= INT32_MAX, ErrorKind::kUnsupported, where,
               "got {} rows of {} heads; need fewer than 2^31 of both together", p.num_rows,
               p.num_heads);
  FOVEAL_CHECK(p.kv_len != nullptr && p.page_table != nullptr, kBad, where,
               "got no kv_len or page_table; need their addresses on the device");
  check_array(p.cu_q, "cu_q", where);
  check_array(p.kv_len, "kv_len", where);
  check_array(p.page_table, "page_table", where);
  FOVEAL_CHECK(p.page_table_stride >= 0 && p.page_table_stride < kMostStride, kBad, where,
               "got page_table_stride {}; need 0 or more, below 2^38", p.page_table_stride);
  const auto& keys = p.keys;
  FOVEAL_CHECK(keys.page_size >= 16 && keys.page_size % 16 == 0 && keys.num_pages >= 1, kBad, where,
               "got {} pages of {} tokens; need 1 or more of a multiple of 16", keys.num_pages,
               keys.page_size);
  const int64_t least = int64_t{keys.page_size} * (p.head_dim + 4);
  FOVEAL_CHECK(aligned(keys.data) && keys.page_bytes >= least && keys.page_bytes % 16 == 0 &&
                   keys.page_bytes < kMostStride,
               kBad, where,
               "got keys.data {} and keys.page_bytes {}; need multiples of 16 and at least {}",
               fmt::ptr(keys.data), keys.page_bytes, least);
}

}  // namespace

void indexer_prepare_check(const foveal_indexer_prepare_params& p) {
  constexpr std::string_view kWhere = "indexer_prepare";
  check_common(p, kWhere);
  check_rows(p.k, p.k_row_stride, p.head_dim, "k", kWhere);
  if (p.q == nullptr) return;
  check_rows(p.q, p.q_row_stride, int64_t{p.num_heads} * p.head_dim, "q", kWhere);
  check_array(p.weights, "weights", kWhere);
  FOVEAL_CHECK(p.weights != nullptr && p.weights_row_stride >= p.num_heads &&
                   p.weights_row_stride < kMostStride,
               kBad, kWhere, "got weights {} and weights_row_stride {}; need rows of {}",
               fmt::ptr(p.weights), p.weights_row_stride, p.num_heads);
  FOVEAL_CHECK(aligned(p.q_out) && aligned(p.weights_out), kBad, kWhere,
               "got q_out {} and weights_out {}; need 16-byte aligned ones", fmt::ptr(p.q_out),
               fmt::ptr(p.weights_out));
}

void indexer_scores_check(const foveal_indexer_scores_params& p) {
  constexpr std::string_view kWhere = "indexer_scores";
  check_common(p, kWhere);
  FOVEAL_CHECK(aligned(p.q) && aligned(p.weights), kBad, kWhere,
               "got q {} and weights {}; need 16-byte aligned ones", fmt::ptr(p.q),
               fmt::ptr(p.weights));
  FOVEAL_CHECK(p.first_position >= 0, kBad, kWhere, "got first_position {}; need 0 or more",
               p.first_position);
  FOVEAL_CHECK(
      p.row_begin >= 0 && p.row_count >= 1 && int64_t{p.row_begin} + p.row_count <= p.num_rows,
      kBad, kWhere, "got rows {} and {} more; need 1 or more of {}", p.row_begin, p.row_count,
      p.num_rows);
  FOVEAL_CHECK(p.max_kv_len >= 1, kBad, kWhere, "got max_kv_len {}; need 1 or more", p.max_kv_len);
  const int64_t pages = ceil_div(p.max_kv_len, p.keys.page_size);
  FOVEAL_CHECK(p.num_seqs == 1 || p.page_table_stride >= pages, kBad, kWhere,
               "got page_table_stride {}; need the pages of max_kv_len, {}", p.page_table_stride,
               pages);
  check_array(p.row_end, "row_end", kWhere);
  check_array(p.scores, "scores", kWhere);
  FOVEAL_CHECK(p.scores != nullptr && p.row_stride >= p.max_kv_len && p.row_stride < kMostStride,
               kBad, kWhere, "got scores {} and row_stride {}; need rows of max_kv_len {}",
               fmt::ptr(p.scores), p.row_stride, p.max_kv_len);
}

}  // namespace foveal::kernels::cuda

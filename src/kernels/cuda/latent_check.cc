#include <string_view>

#include "base/check.h"
#include "base/kv_view.h"
#include "kernels/cuda/latent.h"
#include "kernels/cuda/sm90/latent_args.h"

namespace foveal::kernels::cuda {
namespace {

constexpr auto kBad = ErrorKind::kInvalidArgument;
constexpr auto kNone = ErrorKind::kUnsupported;

static_assert(FOVEAL_MLA_FP8_ROW == kFp8LatentRowBytes);
static_assert(FOVEAL_MLA_HEAD_DIM == foveal::cuda::kLatentHeadDim);

bool aligned(const void* pointer, size_t bytes) {
  return pointer != nullptr && reinterpret_cast<uintptr_t>(pointer) % bytes == 0;
}

void check_struct(uint32_t got, size_t need, std::string_view where) {
  FOVEAL_CHECK(got == need, kBad, where,
               "got struct_size {}; need {} (a caller built against another "
               "foveal/kernels_mla.h?)",
               got, need);
}

void check_cache_sizes(const foveal_latent_cache& cache, std::string_view where) {
  FOVEAL_CHECK(cache.dtype == FOVEAL_BF16 || cache.dtype == FOVEAL_E4M3, kNone, where,
               "got cache.dtype {}; need FOVEAL_BF16 or FOVEAL_E4M3", cache.dtype);
  FOVEAL_CHECK(cache.page_size >= 1 && cache.num_pages >= 1, kBad, where,
               "got cache.page_size {} and cache.num_pages {}; need 1 or more", cache.page_size,
               cache.num_pages);
  FOVEAL_CHECK(int64_t{cache.page_size} * cache.num_pages <= INT32_MAX, kNone, where,
               "got a pool of {} pages of {} tokens; need fewer than 2^31 tokens", cache.num_pages,
               cache.page_size);
  const int64_t row =
      cache.dtype == FOVEAL_BF16 ? int64_t{FOVEAL_MLA_HEAD_DIM} * 2 : FOVEAL_MLA_FP8_ROW;
  FOVEAL_CHECK(cache.page_bytes >= row * cache.page_size && cache.page_bytes % 16 == 0, kBad, where,
               "got cache.page_bytes {}; need a multiple of 16 from {} rows of {} bytes on",
               cache.page_bytes, cache.page_size, row);
}

void check_cache(const foveal_latent_cache& cache, std::string_view where) {
  check_cache_sizes(cache, where);
  FOVEAL_CHECK(aligned(cache.data, 16), kBad, where,
               "got cache.data {}; need it at a multiple of 16 bytes", fmt::ptr(cache.data));
}

void check_table(const int32_t* table, int64_t stride, int32_t page_size, std::string_view where) {
  FOVEAL_CHECK(table != nullptr && stride >= 1 && stride * page_size <= INT32_MAX, kBad, where,
               "got page_table {} and page_table_stride {}; need a table of fewer than 2^31 tokens "
               "a sequence",
               fmt::ptr(table), stride);
}

void check_queries(const foveal_mla_params& p, std::string_view where) {
  FOVEAL_CHECK(aligned(p.q, 16) && p.q_row_stride % 8 == 0 && p.q_head_stride % 8 == 0 &&
                   p.q_head_stride >= FOVEAL_MLA_HEAD_DIM,
               kBad, where,
               "got q {}, q_row_stride {}, q_head_stride {}; need rows of 576 at multiples of 16 "
               "bytes",
               fmt::ptr(p.q), p.q_row_stride, p.q_head_stride);
  FOVEAL_CHECK(aligned(p.out, 16) && p.out_row_stride % 8 == 0 && p.out_head_stride % 8 == 0 &&
                   p.out_head_stride >= FOVEAL_MLA_VALUE_DIM,
               kBad, where,
               "got out {}, out_row_stride {}, out_head_stride {}; need rows of 512 at multiples "
               "of 16 bytes",
               fmt::ptr(p.out), p.out_row_stride, p.out_head_stride);
}

void check_keys(const foveal_mla_params& p, std::string_view where) {
  const bool local = (p.flags & FOVEAL_MLA_LOCAL) != 0;
  if (p.indices == nullptr || local) {
    check_table(p.page_table, p.page_table_stride, p.cache.page_size, where);
  } else {
    FOVEAL_CHECK(p.page_table == nullptr, kBad, where,
                 "got a page_table with lists of slots; need none, or FOVEAL_MLA_LOCAL");
  }
  FOVEAL_CHECK(p.indices == nullptr || p.indices_stride >= p.max_keys, kBad, where,
               "got indices_stride {}; need max_keys {} or more", p.indices_stride, p.max_keys);
  FOVEAL_CHECK(p.indices != nullptr || !local, kBad, where,
               "got FOVEAL_MLA_LOCAL without indices; need indices");
}

}  // namespace

void mla_check_sizes(const foveal_mla_params& p) {
  constexpr std::string_view kWhere = "mla_attention";
  check_struct(p.struct_size, sizeof(p), kWhere);
  FOVEAL_CHECK(p.num_rows >= 1 && p.num_heads >= 1 && p.max_keys >= 1, kBad, kWhere,
               "got num_rows {}, num_heads {}, max_keys {}; need 1 or more", p.num_rows,
               p.num_heads, p.max_keys);
  FOVEAL_CHECK(p.num_heads <= 1024 && int64_t{p.num_rows} * p.num_heads <= INT32_MAX / 64, kNone,
               kWhere, "got {} rows of {} heads; need at most 1024 heads and 2^25 of both",
               p.num_rows, p.num_heads);
  FOVEAL_CHECK(p.splits >= 0 && p.splits <= foveal::cuda::kLatentMaxSplits &&
                   (p.splits <= 1 || p.num_rows <= 65535),
               kBad, kWhere, "got splits {} of {} rows; need 0 to {}, or 1 of more than 65535 rows",
               p.splits, p.num_rows, foveal::cuda::kLatentMaxSplits);
  FOVEAL_CHECK((p.flags & ~(FOVEAL_MLA_LOCAL | FOVEAL_MLA_FIXED_SPLITS)) == 0, kBad, kWhere,
               "got flags {:#x}; need FOVEAL_MLA_LOCAL, FOVEAL_MLA_FIXED_SPLITS, both or 0",
               p.flags);
  FOVEAL_CHECK((p.flags & FOVEAL_MLA_FIXED_SPLITS) == 0 || p.splits == 0, kBad, kWhere,
               "got splits {} with FOVEAL_MLA_FIXED_SPLITS; need 0", p.splits);
  check_cache_sizes(p.cache, kWhere);
}

void mla_check(const foveal_mla_params& p) {
  constexpr std::string_view kWhere = "mla_attention";
  mla_check_sizes(p);
  check_cache(p.cache, kWhere);
  check_queries(p, kWhere);
  check_keys(p, kWhere);
  FOVEAL_CHECK(p.softmax_scale > 0 && p.softmax_scale < 1e30F, kBad, kWhere,
               "got softmax_scale {}; need a positive number", p.softmax_scale);
}

void mla_rows_check(const foveal_mla_rows_params& p) {
  constexpr std::string_view kWhere = "mla_rows";
  check_struct(p.struct_size, sizeof(p), kWhere);
  FOVEAL_CHECK(p.num_seqs >= 1 && p.num_rows >= 1, kBad, kWhere,
               "got num_seqs {} and num_rows {}; need 1 or more", p.num_seqs, p.num_rows);
  FOVEAL_CHECK(p.kv_len != nullptr && (p.counts != nullptr || p.row_seq != nullptr), kBad, kWhere,
               "got no kv_len, or neither counts nor row_seq; need kv_len and one of them");
}

void mla_store_check(const foveal_mla_store_params& p) {
  constexpr std::string_view kWhere = "mla_store";
  check_struct(p.struct_size, sizeof(p), kWhere);
  FOVEAL_CHECK(p.num_rows >= 1, kBad, kWhere, "got num_rows {}; need 1 or more", p.num_rows);
  check_cache(p.cache, kWhere);
  FOVEAL_CHECK(aligned(p.latent, 16) && aligned(p.rope, 16) && p.latent_stride % 8 == 0 &&
                   p.rope_stride % 8 == 0,
               kBad, kWhere,
               "got latent {} of stride {}, rope {} of stride {}; need rows at multiples of 16 "
               "bytes",
               fmt::ptr(p.latent), p.latent_stride, fmt::ptr(p.rope), p.rope_stride);
  if (p.slots != nullptr) return;
  FOVEAL_CHECK(p.counts != nullptr, kBad, kWhere, "got neither slots nor counts; need one");
  check_table(p.page_table, p.page_table_stride, p.cache.page_size, kWhere);
}

}  // namespace foveal::kernels::cuda

#include "kernels/cuda/elementwise.h"

#include "base/check.h"
#include "kernels/cuda/elementwise_launch.h"
#include "kernels/cuda/launch.h"

namespace foveal::kernels::cuda {
namespace {

bool aligned(const void* p) { return reinterpret_cast<uintptr_t>(p) % 16 == 0; }
bool aligned_or_null(const void* p) { return p == nullptr || aligned(p); }

bool is_half(DType dtype) { return dtype == DType::kBF16 || dtype == DType::kF16; }
bool is_norm_weight(DType dtype) { return dtype == DType::kF32 || dtype == DType::kBF16; }

/// The common complaint: sizes and strides in elements, multiples of 8, 16-byte pointers.
void check_rows(std::string_view where, int64_t m, int64_t n, int64_t x_stride, int64_t y_stride,
                bool pointers_aligned) {
  FOVEAL_CHECK(m >= 0 && m < (int64_t{1} << 31) && n > 0 && n % 8 == 0 && x_stride % 8 == 0 &&
                   y_stride % 8 == 0 && x_stride >= n && y_stride >= n && pointers_aligned,
               ErrorKind::kInternal, where,
               "got {} rows of {}, strides {} and {}, pointers {}; need multiples of 8, strides no "
               "shorter than rows, 16-byte alignment",
               m, n, x_stride, y_stride, pointers_aligned ? "aligned" : "not aligned");
}

}  // namespace

void rms_norm(const RmsNormParams& params, Stream& stream) {
  constexpr std::string_view kWhere = "rms_norm";
  void* const native = native_stream(stream, kWhere);
  const auto& p = params;
  check_rows(kWhere, p.m, p.n, p.x_stride, p.y_stride,
             aligned(p.x) && aligned(p.y) && aligned(p.weight));
  FOVEAL_CHECK(p.n <= kMaxNormCols, ErrorKind::kUnsupported, kWhere,
               "got rows of {}; need at most {}", p.n, kMaxNormCols);
  FOVEAL_CHECK(is_norm_weight(p.weight_dtype) && (p.y_dtype == DType::kF32 || is_half(p.y_dtype)) &&
                   (!p.accumulate || p.y_dtype == DType::kF32),
               ErrorKind::kInternal, kWhere,
               "got weight {}, y {}{}; need weight f32 or bf16, y f32, bf16 or f16 (f32 to "
               "accumulate)",
               dtype_name(p.weight_dtype), dtype_name(p.y_dtype),
               p.accumulate ? " accumulated" : "");
  if (p.m > 0) rms_norm_launch(p, native);
}

void rope_store(const RopeStoreParams& params, Stream& stream) {
  constexpr std::string_view kWhere = "rope_store";
  void* const native = native_stream(stream, kWhere);
  const auto& p = params;
  const int64_t cols = (int64_t{p.num_heads} + 2 * p.num_kv_heads) * p.head_dim;
  check_rows(kWhere, p.m, cols, p.row_stride, p.row_stride, aligned(p.qkv));
  FOVEAL_CHECK(p.head_dim > 0 && p.head_dim % 8 == 0 && p.head_dim <= 256 && p.rotary_dim >= 0 &&
                   p.rotary_dim <= p.head_dim && p.rotary_dim % 16 == 0,
               ErrorKind::kUnsupported, kWhere,
               "got head_dim {}, rotary_dim {}; need head_dim a multiple of 8, at most 256, "
               "rotary_dim a multiple of 16, at most head_dim",
               p.head_dim, p.rotary_dim);
  FOVEAL_CHECK(
      is_half(p.dtype) && (is_half(p.kv_dtype) || p.kv_dtype == DType::kF8E4M3) &&
          is_norm_weight(p.norm_dtype) && (p.q_norm == nullptr) == (p.k_norm == nullptr),
      ErrorKind::kInternal, kWhere,
      "got qkv {}, pages {}, norms {}; need bf16 or f16, f8_e4m3 for pages only, both norms "
      "or none",
      dtype_name(p.dtype), dtype_name(p.kv_dtype), dtype_name(p.norm_dtype));
  FOVEAL_CHECK(
      p.page_size > 0 && (p.page_size & (p.page_size - 1)) == 0 && p.page_stride % 8 == 0 &&
          p.head_stride % 8 == 0 && p.token_stride % 8 == 0 && aligned(p.k_pages) &&
          aligned(p.v_pages) && p.k_scale > 0 && p.v_scale > 0,
      ErrorKind::kInternal, kWhere,
      "got page_size {}, strides {}, {}, {}, scales {}, {}; need a power of two, multiples "
      "of 8, aligned pages, positive scales",
      p.page_size, p.page_stride, p.head_stride, p.token_stride, p.k_scale, p.v_scale);
  FOVEAL_CHECK(
      p.slots != nullptr &&
          (p.rotary_dim == 0 ||
           (p.positions != nullptr && p.cos_table != nullptr && p.sin_table != nullptr)) &&
          aligned_or_null(p.cos_table) && aligned_or_null(p.sin_table) &&
          aligned_or_null(p.q_norm) && aligned_or_null(p.k_norm),
      ErrorKind::kInternal, kWhere,
      "got no slots, no positions or tables, or tables or norms that are not aligned to 16 bytes");
  if (p.m > 0) rope_store_launch(p, native);
}

void fill_slots(const FillSlotsParams& params, Stream& stream) {
  constexpr std::string_view kWhere = "fill_slots";
  void* const native = native_stream(stream, kWhere);
  const auto& p = params;
  FOVEAL_CHECK(
      p.page_size > 0 && p.num_rows >= 0 && (p.num_rows == 0 || p.num_seqs > 0) &&
          (p.cu_q != nullptr || p.num_rows == p.num_seqs),
      ErrorKind::kInternal, kWhere,
      "got {} rows of {} sequences, page_size {}; need a row a sequence where cu_q is null",
      p.num_rows, p.num_seqs, p.page_size);
  if (p.num_rows > 0) fill_slots_launch(p, native);
}

void act_mul(const ActMulParams& params, Stream& stream) {
  constexpr std::string_view kWhere = "act_mul";
  void* const native = native_stream(stream, kWhere);
  const auto& p = params;
  check_rows(kWhere, p.m, p.n, p.x_stride, p.y_stride, aligned(p.gate_up) && aligned(p.y));
  FOVEAL_CHECK(is_half(p.dtype) && p.x_stride >= 2 * p.n, ErrorKind::kInternal, kWhere,
               "got {} with stride {}; need bf16 or f16 and at least {}", dtype_name(p.dtype),
               p.x_stride, 2 * p.n);
  if (p.m > 0) act_mul_launch(p, native);
}

void embed(const EmbedParams& params, Stream& stream) {
  void* const native = native_stream(stream, "embed");
  const auto& p = params;
  check_rows("embed", p.m, p.n, p.n, p.n, aligned(p.table) && aligned(p.y));
  if (p.m > 0) embed_launch(p, native);
}

void add_scaled(const float* x, float alpha, float* y, int64_t n, Stream& stream) {
  void* const native = native_stream(stream, "add_scaled");
  FOVEAL_CHECK(n >= 0 && aligned(x) && aligned(y), ErrorKind::kInternal, "add_scaled",
               "got {} values, pointers {} and {}; need 16-byte alignment", n, fmt::ptr(x),
               fmt::ptr(y));
  if (n > 0) add_scaled_launch(x, alpha, y, n, native);
}

void scale_softcap(float* x, float alpha, float cap, int64_t n, Stream& stream) {
  void* const native = native_stream(stream, "scale_softcap");
  FOVEAL_CHECK(n >= 0 && aligned(x) && cap >= 0, ErrorKind::kInternal, "scale_softcap",
               "got {} values at {}, cap {}; need 16-byte alignment and a cap of 0 or more", n,
               fmt::ptr(x), cap);
  if (n > 0) scale_softcap_launch(x, alpha, cap, n, native);
}

void gather_rows(const void* x, const int32_t* rows, void* y, int64_t m, int64_t row_bytes,
                 Stream& stream) {
  void* const native = native_stream(stream, "gather_rows");
  FOVEAL_CHECK(m >= 0 && row_bytes > 0 && row_bytes % 16 == 0 && aligned(x) && aligned(y),
               ErrorKind::kInternal, "gather_rows",
               "got {} rows of {} bytes; need whole 16 bytes, aligned", m, row_bytes);
  if (m > 0) gather_rows_launch(x, rows, y, m, row_bytes, native);
}

void zero_pages(void* base, int64_t page_bytes, const int32_t* pages, int64_t num_pages,
                Stream& stream) {
  void* const native = native_stream(stream, "zero_pages");
  FOVEAL_CHECK(num_pages >= 0 && page_bytes > 0 && page_bytes % 16 == 0 && aligned(base),
               ErrorKind::kInternal, "zero_pages",
               "got {} pages of {} bytes; need whole 16 bytes, aligned", num_pages, page_bytes);
  if (num_pages > 0) zero_pages_launch(base, page_bytes, pages, num_pages, native);
}

void fill_normal(uint16_t* y, int64_t n, uint64_t seed, float deviation, Stream& stream) {
  void* const native = native_stream(stream, "fill_normal");
  FOVEAL_CHECK(n >= 0 && aligned(y), ErrorKind::kInternal, "fill_normal",
               "got {} values at {}; need 16-byte alignment", n, fmt::ptr(y));
  if (n > 0) fill_normal_launch(y, n, seed, deviation, native);
}

void expand(const ExpandParams& params, Stream& stream) {
  void* const native = native_stream(stream, "expand");
  const auto& p = params;
  FOVEAL_CHECK(is_weight_dtype(p.dtype) && p.dtype != DType::kE4M3x32, ErrorKind::kInternal,
               "expand", "got {}; need a weight dtype of a file", dtype_name(p.dtype));
  FOVEAL_CHECK(p.rows >= 0 && p.cols > 0 && p.cols % 8 == 0 &&
                   p.cols % dtype_info(p.dtype).block == 0 && p.y_stride >= p.cols &&
                   p.y_stride % 8 == 0 && aligned(p.y),
               ErrorKind::kInternal, "expand",
               "got {} rows of {} in {}, stride {}; need whole blocks of {}, multiples of 8, y "
               "aligned to 16 bytes",
               p.rows, p.cols, dtype_name(p.dtype), p.y_stride, dtype_info(p.dtype).block);
  if (p.rows > 0) expand_launch(p, native);
}

}  // namespace foveal::kernels::cuda

#include "kernels/cuda/dense_gemm.h"

#include <algorithm>

#include "base/check.h"
#include "kernels/cuda/elementwise_launch.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/lt_gemm.h"
#include "kernels/cuda/skinny_gemm.h"

namespace foveal::kernels::cuda {
namespace {

constexpr std::string_view kWhere = "dense_gemm";

/// Up to here the decode kernel beats the library at every shape measured
/// (docs/kernels/cuda_dense.md). With e4m3 weights up to kMaxDecodeRows, where it takes as long and
/// rounds nothing; but with block scales and so many values the library is a fifth faster.
constexpr int64_t kAutoDecodeRows = 16;
constexpr int64_t kWideValues = int64_t{100} << 20;

bool aligned(const void* p, size_t bytes) { return reinterpret_cast<uintptr_t>(p) % bytes == 0; }

int64_t element_bytes(DType dtype) { return dtype_info(dtype).bytes; }

void check_rows(std::string_view what, const void* data, int64_t stride, int64_t cols,
                int64_t bytes) {
  FOVEAL_CHECK(data != nullptr && aligned(data, 16) && stride >= cols && stride * bytes % 16 == 0,
               ErrorKind::kInternal, kWhere,
               "got {} at {} with stride {} of {} bytes; need 16-byte alignment and a stride of at "
               "least {}",
               what, fmt::ptr(data), stride, bytes, cols);
}

void check_types(const DenseGemmParams& p) {
  const bool fp8 = p.dtype == DType::kF8E4M3;
  FOVEAL_CHECK(fp8 || p.dtype == DType::kBF16 || p.dtype == DType::kF16, ErrorKind::kInternal,
               kWhere, "got {}; need bf16, f16 or f8_e4m3", dtype_name(p.dtype));
  const bool narrow = p.y_dtype == (p.dtype == DType::kF16 ? DType::kF16 : DType::kBF16);
  FOVEAL_CHECK(p.y_dtype == DType::kF32 || narrow, ErrorKind::kInternal, kWhere,
               "got y {} for {}; need f32 or the operands' type (bf16 for f8_e4m3)",
               dtype_name(p.y_dtype), dtype_name(p.dtype));
  FOVEAL_CHECK(!p.accumulate || p.y_dtype == DType::kF32, ErrorKind::kInternal, kWhere,
               "got accumulation into {}; need f32", dtype_name(p.y_dtype));
  const bool scaled = p.scaling != GemmScaling::kNone;
  const bool has_x_scale = p.x_scale != nullptr || p.scaling != GemmScaling::kTensor;
  FOVEAL_CHECK(fp8 == scaled && (!scaled || (has_x_scale && p.weight_scale != nullptr)),
               ErrorKind::kInternal, kWhere,
               "got {} with scaling {}; need its scales for f8_e4m3, none otherwise",
               dtype_name(p.dtype), static_cast<int>(p.scaling));
}

/// Whether x is bf16 beside a weight in e4m3.
bool wide_x(const DenseGemmParams& p) { return p.dtype == DType::kF8E4M3 && p.x_scale == nullptr; }
int64_t x_bytes(const DenseGemmParams& p) { return wide_x(p) ? 2 : element_bytes(p.dtype); }

void check_params(const DenseGemmParams& p) {
  check_types(p);
  const int64_t bytes = element_bytes(p.dtype);
  FOVEAL_CHECK(p.m >= 0 && p.n > 0 && p.k > 0 && p.k * bytes % 16 == 0, ErrorKind::kInternal,
               kWhere, "got m {}, n {}, k {}; need n > 0 and rows of whole 16 bytes", p.m, p.n,
               p.k);
  check_rows("x", p.x, p.x_stride, p.k, x_bytes(p));
  check_rows("weight", p.weight, p.weight_stride, p.k, bytes);
  check_rows("y", p.y, p.y_stride, p.n, element_bytes(p.y_dtype));
  if (p.scaling == GemmScaling::kBlock && !wide_x(p)) {
    FOVEAL_CHECK(p.m % 4 == 0, ErrorKind::kInternal, kWhere,
                 "got m {} with block scales; need it padded to a multiple of 4", p.m);
  }
}

void check_batch(const DenseGemmParams& p) {
  const int64_t bytes = element_bytes(p.dtype);
  FOVEAL_CHECK(
      p.batch >= 1 && p.bias == nullptr && p.scaling == GemmScaling::kNone &&
          p.route != GemmRoute::kDecode && p.x_batch_stride * bytes % 16 == 0 &&
          p.weight_batch_stride * bytes % 16 == 0 &&
          p.y_batch_stride * element_bytes(p.y_dtype) % 16 == 0,
      ErrorKind::kInternal, kWhere,
      "got a batch of {} with strides {}, {}, {}; need whole 16 bytes, no bias, no scales, "
      "and not the decode route",
      p.batch, p.x_batch_stride, p.weight_batch_stride, p.y_batch_stride);
}

}  // namespace

struct DenseGemm::Impl {
  DenseGemmOptions options;
  LtGemm library;

  Impl(Device device, const DenseGemmOptions& given) : options(given), library(device, given) {}

  bool takes_decode(const DenseGemmParams& p) const {
    if (p.batch != 1) return false;
    const bool possible = (p.dtype != DType::kF8E4M3 || wide_x(p)) && p.m <= kMaxDecodeRows;
    FOVEAL_CHECK(p.route == GemmRoute::kDecode ? p.dtype != DType::kF8E4M3 || wide_x(p)
                                               : p.route == GemmRoute::kAuto || !wide_x(p),
                 ErrorKind::kInternal, kWhere,
                 "got {} {} a scale of x for route {}; need none for the decode route, one for the "
                 "library",
                 dtype_name(p.dtype), wide_x(p) ? "without" : "with", static_cast<int>(p.route));
    if (p.route == GemmRoute::kDecode || wide_x(p)) return true;
    FOVEAL_CHECK(!options.batch_invariant || p.route != GemmRoute::kAuto, ErrorKind::kInternal,
                 kWhere, "got route auto in batch-invariant mode; need decode or library");
    return p.route == GemmRoute::kAuto && possible && p.m <= kAutoDecodeRows;
  }

  /// Any number of rows, kMaxDecodeRows at a time: a row's result does not depend on its group.
  static void run_decode(const DenseGemmParams& p, void* stream) {
    for (int64_t first = 0; first < p.m; first += kMaxDecodeRows) {
      DenseGemmParams part = p;
      part.m = std::min(p.m - first, kMaxDecodeRows);
      part.x = static_cast<const std::byte*>(p.x) + first * p.x_stride * x_bytes(p);
      part.y = static_cast<std::byte*>(p.y) + first * p.y_stride * element_bytes(p.y_dtype);
      skinny_gemm_launch(part, stream);
    }
  }
};

DenseGemm::DenseGemm(Device device, const DenseGemmOptions& options)
    : impl_(std::make_unique<Impl>(device, options)) {}
DenseGemm::~DenseGemm() = default;
DenseGemm::DenseGemm(DenseGemm&&) noexcept = default;

bool DenseGemm::decodes(int64_t m, DType weight, GemmScaling scaling, int64_t values) const {
  const bool wide = scaling == GemmScaling::kBlock && values >= kWideValues;
  const int64_t most = weight == DType::kF8E4M3 && !wide ? kMaxDecodeRows : kAutoDecodeRows;
  return !impl_->options.batch_invariant && m <= most;
}

void DenseGemm::run(const DenseGemmParams& params, Stream& stream) {
  void* const native = native_stream(stream, kWhere);
  check_params(params);
  if (params.batch != 1) check_batch(params);
  if (params.m == 0) return;
  if (impl_->takes_decode(params)) {
    Impl::run_decode(params, native);
  } else {
    impl_->library.run(params, stream);
  }
}

void DenseGemm::run_gated(const GatedGemmParams& params, Stream& stream) {
  void* const native = native_stream(stream, kWhere);
  const auto& p = params;
  const bool fp8 = p.dtype == DType::kF8E4M3;
  FOVEAL_CHECK((fp8 || p.dtype == DType::kBF16 || p.dtype == DType::kF16) && p.m >= 0 && p.n > 0 &&
                   p.k > 0 && p.k * element_bytes(p.dtype) % 16 == 0,
               ErrorKind::kInternal, kWhere,
               "got {}, m {}, n {}, k {}; need bf16, f16 or f8_e4m3, rows of whole 16 bytes",
               dtype_name(p.dtype), p.m, p.n, p.k);
  const bool blocks = p.scaling == GemmScaling::kBlock;
  FOVEAL_CHECK(
      fp8 ? p.weight_scale != nullptr && (blocks ? p.n % 128 == 0 : p.scaling == GemmScaling::kRow)
          : p.scaling == GemmScaling::kNone,
      ErrorKind::kInternal, kWhere,
      "got {} with scaling {}, n {}; need scales a row or a block for f8_e4m3, n a multiple of 128 "
      "by blocks, none otherwise",
      dtype_name(p.dtype), static_cast<int>(p.scaling), p.n);
  check_rows("x", p.x, p.x_stride, p.k, 2);
  check_rows("weight", p.weight, p.weight_stride, p.k, element_bytes(p.dtype));
  check_rows("y", p.y, p.y_stride, p.n, 2);
  for (int64_t first = 0; first < p.m; first += kMaxDecodeRows) {
    GatedGemmParams part = p;
    part.m = std::min(p.m - first, kMaxDecodeRows);
    part.x = static_cast<const std::byte*>(p.x) + first * p.x_stride * 2;
    part.y = static_cast<std::byte*>(p.y) + first * p.y_stride * 2;
    skinny_gated_launch(part, native);
  }
}

void quantize_e4m3_blocks(const QuantizeParams& params, Stream& stream) {
  void* const native = native_stream(stream, "quantize_e4m3_blocks");
  const auto& p = params;
  FOVEAL_CHECK(p.k % 8 == 0 && p.x_stride % 8 == 0 && p.y_stride % 8 == 0 &&
                   p.scale_stride >= std::max(p.m, p.padded_m) && aligned(p.x, 16) &&
                   aligned(p.y, 8),
               ErrorKind::kInternal, "quantize_e4m3_blocks",
               "got k {}, strides {}, {}, {}; need k a multiple of 8, 16-byte rows of x, 8-byte "
               "rows of y, scale stride >= {}",
               p.k, p.x_stride, p.y_stride, p.scale_stride, p.m);
  if (p.m > 0) quantize_e4m3_blocks_launch(p, native);
}

void quantize_e4m3_rows(const QuantizeParams& params, Stream& stream) {
  void* const native = native_stream(stream, "quantize_e4m3_rows");
  const auto& p = params;
  FOVEAL_CHECK(p.k % 8 == 0 && p.x_stride % 8 == 0 && p.y_stride % 8 == 0 && aligned(p.x, 16) &&
                   aligned(p.y, 8),
               ErrorKind::kInternal, "quantize_e4m3_rows",
               "got k {}, strides {}, {}; need multiples of 8 and aligned rows", p.k, p.x_stride,
               p.y_stride);
  if (p.m > 0) quantize_e4m3_rows_launch(p, native);
}

void quantize_e4m3_tensor(const QuantizeParams& params, Stream& stream) {
  void* const native = native_stream(stream, "quantize_e4m3_tensor");
  const auto& p = params;
  FOVEAL_CHECK(p.k % 8 == 0 && p.x_stride % 8 == 0 && p.y_stride % 8 == 0 && aligned(p.x, 16) &&
                   aligned(p.y, 8),
               ErrorKind::kInternal, "quantize_e4m3_tensor",
               "got k {}, strides {}, {}; need multiples of 8 and aligned rows", p.k, p.x_stride,
               p.y_stride);
  if (p.m > 0) quantize_e4m3_tensor_launch(p, native);
}

}  // namespace foveal::kernels::cuda

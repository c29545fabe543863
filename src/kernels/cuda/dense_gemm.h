#pragma once

#include <cstdint>
#include <memory>

#include "base/dtype.h"
#include "device/stream.h"
#include "kernels/elementwise.h"

namespace foveal::kernels::cuda {

/// Which of the two paths of a product is taken. In batch-invariant mode `kAuto` is refused: there
/// the phase of the rows chooses, never their number.
enum class GemmRoute : uint8_t {
  kAuto,    ///< by shape: the decode kernel up to a measured number of rows, else the library
  kDecode,  ///< skinny_gemm (reads the weight once per 8..32 rows)
  kLibrary  ///< cuBLASLt
};

/// How the values of x and weight relate to what is stored (e4m3 only).
enum class GemmScaling : uint8_t {
  kNone,
  kTensor,  ///< one float32 scale each for x and weight
  kRow,     ///< one a row of x, and one a row of the weight
  kBlock    ///< x: one scale a row and 128 columns; weight: one a block of 128 x 128; m a multiple
            ///< of 4 (callers pad), as the library lays scales out
};

/// Floats from a row of a weight's block scales to the next, as the library wants them.
constexpr int64_t block_scale_stride(int64_t k) { return (k + 511) / 512 * 4; }

/// y = alpha * x W^T (+ bias), or y += alpha * x W^T (+ bias) with y in float32.
/// `weight` is read before earlier work of the stream is done: whatever wrote it must have been
/// waited for (Stream::synchronize after loading). All pointers are device memory; x, weight and y
/// aligned to 16 bytes; k, and the strides in bytes, multiples of 16 bytes.
struct DenseGemmParams {
  const void* x = nullptr;       ///< [m, k] of `dtype`; bf16 where x_scale is null; stride x_stride
  const void* weight = nullptr;  ///< [n, k] of `dtype`, row stride weight_stride
  void* y = nullptr;             ///< [m, n] y_dtype, row stride y_stride
  const void* bias = nullptr;    ///< [n] bf16 (f16 for f16 weights), or null
  int64_t m = 0;
  int64_t n = 0;
  int64_t k = 0;
  int64_t x_stride = 0;  ///< elements
  int64_t weight_stride = 0;
  int64_t y_stride = 0;
  DType dtype = DType::kBF16;    ///< kBF16, kF16 or kF8E4M3
  DType y_dtype = DType::kBF16;  ///< kBF16, kF16 or kF32
  bool accumulate = false;       ///< y += ...; needs y_dtype kF32
  float alpha = 1;
  GemmRoute route = GemmRoute::kAuto;
  GemmScaling scaling = GemmScaling::kNone;
  /// [1], [m] (kRow) or [ceil(k / 128), m] (kBlock). Null with e4m3 weights by row or block: x is
  /// bf16 and nothing of it is rounded, which only the decode route does.
  const float* x_scale = nullptr;
  const float* weight_scale = nullptr;  ///< [1], [n] or [ceil(n / 128), block_scale_stride(k)]
  /// So many products of this shape at once, as one call of the library (whatever the route, auto
  /// or library): each begins so many elements after the one before. Without bias and scales.
  int64_t batch = 1;
  int64_t x_batch_stride = 0;
  int64_t weight_batch_stride = 0;
  int64_t y_batch_stride = 0;
};

/// y = act(x Wg^T) * (x Wu^T): gate_up and activation in one kernel, for decode. Rows 0..n-1 of
/// `weight` are the gate, rows n..2n-1 up. The products are not rounded before the activation.
struct GatedGemmParams {
  const void* x = nullptr;       ///< [m, k] bf16 or f16; bf16 for e4m3 weights
  const void* weight = nullptr;  ///< [2n, k] of `dtype`
  void* y = nullptr;             ///< [m, n] of x's type
  const void* bias = nullptr;    ///< [2n] or null
  int64_t m = 0;
  int64_t n = 0;
  int64_t k = 0;
  int64_t x_stride = 0;
  int64_t weight_stride = 0;
  int64_t y_stride = 0;
  DType dtype = DType::kBF16;  ///< kBF16, kF16 or kF8E4M3
  Activation act = Activation::kSilu;
  GemmScaling scaling = GemmScaling::kNone;  ///< e4m3: kRow, or kBlock with n a multiple of 128
  const float* weight_scale = nullptr;       ///< of all 2n rows, as in DenseGemmParams
};

/// The most rows the decode kernel takes in a launch; more are several launches.
inline constexpr int64_t kMaxDecodeRows = 32;

struct DenseGemmOptions {
  /// One algorithm per (n, k, types), whatever m, without split-K: a row's result does not depend
  /// on the rows beside it. Callers choose the route by phase.
  bool batch_invariant = false;
  /// Time the library's best candidates when a shape is first seen outside of graph capture; else
  /// its first choice is taken.
  bool autotune = false;
  size_t workspace_bytes = size_t{64} << 20;
};

/// Matrix products of one device. Owns the library's handle, a workspace and the table of chosen
/// algorithms. One engine thread, one stream at a time. A shape seen first inside a graph capture
/// is chosen without timing.
class DenseGemm {
 public:
  /// Throws kUnsupported, saying where it looked, when libcublasLt.so.13 cannot be loaded.
  DenseGemm(Device device, const DenseGemmOptions& options);
  ~DenseGemm();
  DenseGemm(DenseGemm&&) noexcept;

  /// Throws kInternal for shapes, strides or alignments outside of the contract above, naming them.
  void run(const DenseGemmParams& params, Stream& stream);
  void run_gated(const GatedGemmParams& params, Stream& stream);
  /// True when `run` with kAuto would take the decode kernel for these rows, so that a caller can
  /// take run_gated; with weights in e4m3, of n k `values`, when the decode route is as fast.
  bool decodes(int64_t m, DType weight = DType::kBF16, GemmScaling scaling = GemmScaling::kNone,
               int64_t values = 0) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// e4m3 with a scale a row and 128 columns: scale = max|x| / 448 (1 for zeros), value = x / scale.
struct QuantizeParams {
  const uint16_t* x = nullptr;  ///< [m, k] bf16, row stride x_stride; k a multiple of 8
  uint8_t* y = nullptr;         ///< [m, k] e4m3, row stride y_stride
  float* scale = nullptr;  ///< [ceil(k / 128), scale_stride], scale_stride >= m, a multiple of 4
  int64_t m = 0;
  int64_t k = 0;
  int64_t x_stride = 0;
  int64_t y_stride = 0;
  int64_t scale_stride = 0;
  int64_t padded_m = 0;  ///< rows from m on, up to this one, become zeros with scale 1
};
void quantize_e4m3_blocks(const QuantizeParams& params, Stream& stream);

/// e4m3 with a scale a row: as above over all of its k, a multiple of 8. `scale` [m].
void quantize_e4m3_rows(const QuantizeParams& params, Stream& stream);

/// e4m3 with one given scale: y = x / scale, saturating. `scale` [1] on the device, or null: 1; k a
/// multiple of 8, strides as above, `scale_stride` unused.
void quantize_e4m3_tensor(const QuantizeParams& params, Stream& stream);

}  // namespace foveal::kernels::cuda

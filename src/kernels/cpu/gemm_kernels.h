#pragma once

#include <cstdint>

#include "base/dtype.h"

/// What gemm.cc hands to the kernels of one instruction-set level. Plain data only: the kernels'
/// translation units instantiate nothing that others share.
namespace foveal::kernels::cpu {

/// Consecutive columns (rows of the stored weight) of one output.
struct GemmSlice {
  const uint8_t* weight = nullptr;  ///< [n, k] as stored; the first column's bytes
  int64_t row_bytes = 0;
  DType dtype = DType::kF32;
  int64_t n = 0;
  const float* bias = nullptr;  ///< [n] or null
  float* y = nullptr;           ///< [m, n], row stride y_stride
  int64_t y_stride = 0;
  bool accumulate = false;
};

/// Some panels of a prefill call: `slice.n <= kTaskPanels * tile_cols`.
struct PrefillTask {
  GemmSlice slice;
  const uint32_t* x = nullptr;  ///< [ceil(m / tile_rows), steps, tile_rows], see pack_rows
  int64_t m = 0;
  int64_t k = 0;
  uint32_t* panel = nullptr;  ///< the worker's own [kTaskPanels, kPanelSteps, tile_cols]
  float* partial = nullptr;   ///< the worker's own [kTaskPanels, ceil(m / tile_rows), tile_rows,
                              ///< tile_cols]
  float* row = nullptr;       ///< the worker's own, kRowFloats
};

/// Columns of a decode or exact call.
struct DotTask {
  GemmSlice slice;
  const float* x = nullptr;          ///< [m, k], row stride x_stride; zeros from k to padded_k
  const uint16_t* x_bf16 = nullptr;  ///< [m, padded_k] rounded, where the level and path want it
  const float* x_sums = nullptr;     ///< [m, sums_stride]: sums of 32 rounded elements each
  int64_t sums_stride = 0;
  int64_t m = 0;
  int64_t k = 0;
  int64_t padded_k = 0;  ///< k rounded up to 32
  int64_t x_stride = 0;
  float* scratch = nullptr;  ///< the worker's own, kDotScratchFloats
};

/// Steps (1 element, or 2 in bf16) of the reduction that a packed panel holds: 128 KiB, an eighth
/// of the L2 cache of the machine it was measured on. Boundaries are at absolute positions.
inline constexpr int64_t kPanelSteps = 1024;
/// Panels that share one pass over x: half of L2, and a fourth of the traffic for x, which is
/// larger than L2 when k is.
inline constexpr int64_t kTaskPanels = 4;
/// A multiple of every format's block; four columns of it are 8 KiB, so they stay in L1.
inline constexpr int64_t kDotChunk = 512;
/// Rows whose accumulators a dot call keeps between chunks of k.
inline constexpr int64_t kDotRowBlock = 64;
inline constexpr int64_t kDotCols = 4;
inline constexpr int64_t kMaxLanes = 16;
inline constexpr int64_t kDotScratchFloats =
    kDotCols * kDotChunk + kDotRowBlock * kDotCols * kMaxLanes;
/// Two steps' elements of one column.
inline constexpr int64_t kRowFloats = 2 * kPanelSteps;

struct GemmKernels {
  int tile_rows;
  int tile_cols;
  int step;          ///< elements of one packed 32-bit word
  bool bf16_decode;  ///< decode wants x_bf16 and x_sums

  /// Rows [0, rows <= tile_rows) of x into a packed tile [steps, tile_rows].
  void (*pack_rows)(const float* x, int64_t x_stride, int64_t rows, int64_t k, uint32_t* out);
  void (*prefill)(const PrefillTask& task);
  void (*exact)(const DotTask& task);
  void (*decode)(const DotTask& task);
  /// Rounds one row to bf16 and sums each 32 of the rounded.
  void (*round_row)(const float* x, int64_t k, int64_t padded_k, uint16_t* x_bf16, float* x_sums);
  /// Asks for the first bytes of weights that a worker is about to stream.
  void (*warm)(const uint8_t* weight, int64_t bytes);
  void (*dequantize)(DType dtype, const uint8_t* row, int64_t k, float* out);
};

namespace portable {
extern const GemmKernels kGemmKernels;
}
namespace avx2 {
extern const GemmKernels kGemmKernels;
}
namespace avx512 {
extern const GemmKernels kGemmKernels;
}
namespace avx512bf16 {
extern const GemmKernels kGemmKernels;
}

/// The table of the active level.
const GemmKernels& gemm_kernels();

}  // namespace foveal::kernels::cpu

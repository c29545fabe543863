#pragma once

#include <cstdint>

#include "base/dtype.h"
#include "device/stream.h"

namespace foveal::kernels::cuda {

/// Stored weights to bf16: each element as its format defines it (kernels/reference/dequant.cc, bit
/// for bit in float32), then rounded to the nearest bf16, ties to even.
struct ExpandParams {
  const void* stored = nullptr;  ///< [rows, cols] as stored, rows back to back; device memory
  DType dtype = DType::kF32;     ///< any weight dtype (is_weight_dtype), or kBF16 for a copy
  uint16_t* y = nullptr;         ///< [rows, cols] bf16, row stride y_stride; aligned to 16 bytes
  int64_t rows = 0;
  int64_t cols = 0;      ///< whole blocks of dtype
  int64_t y_stride = 0;  ///< elements
};
void expand(const ExpandParams& params, Stream& stream);

}  // namespace foveal::kernels::cuda

#include "base/dtype.h"

#include <array>

#include "base/check.h"
#include "base/math.h"

namespace foveal {
namespace {

// Block sizes are those of the GGUF specification (ggml's block structs), but for e4m3's.
constexpr std::array<DTypeInfo, 20> kTable{{
    {DType::kF32, "f32", 1, 4},        {DType::kF16, "f16", 1, 2},
    {DType::kBF16, "bf16", 1, 2},      {DType::kQ4_0, "q4_0", 32, 18},
    {DType::kQ4_1, "q4_1", 32, 20},    {DType::kQ5_0, "q5_0", 32, 22},
    {DType::kQ5_1, "q5_1", 32, 24},    {DType::kQ8_0, "q8_0", 32, 34},
    {DType::kQ4_K, "q4_k", 256, 144},  {DType::kQ5_K, "q5_k", 256, 176},
    {DType::kQ6_K, "q6_k", 256, 210},  {DType::kE4M3x32, "f8_e4m3_x32", 32, 36},
    {DType::kI8, "i8", 1, 1},          {DType::kI16, "i16", 1, 2},
    {DType::kI32, "i32", 1, 4},        {DType::kI64, "i64", 1, 8},
    {DType::kU8, "u8", 1, 1},          {DType::kF64, "f64", 1, 8},
    {DType::kF8E4M3, "f8_e4m3", 1, 1}, {DType::kBool, "bool", 1, 1},
}};

}  // namespace

const DTypeInfo& dtype_info(DType dtype) {
  const auto idx = static_cast<size_t>(dtype);
  FOVEAL_INVARIANT(idx < kTable.size() && kTable[idx].dtype == dtype);
  return kTable[idx];
}

bool is_weight_dtype(DType dtype) { return dtype <= DType::kE4M3x32; }

std::optional<int64_t> row_bytes(DType dtype, int64_t cols) {
  const DTypeInfo& info = dtype_info(dtype);
  if (cols < 0 || cols % info.block != 0) return std::nullopt;
  return checked_mul(cols / info.block, info.bytes);
}

}  // namespace foveal

#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace foveal {

/// Storage types of weights and caches. The quantised ones are GGUF's, bit for bit, but for
/// kE4M3x32: a float32 scale, then 32 e4m3 values that it multiplies.
enum class DType : uint8_t {
  kF32,
  kF16,
  kBF16,
  kQ4_0,
  kQ4_1,
  kQ5_0,
  kQ5_1,
  kQ8_0,
  kQ4_K,
  kQ5_K,
  kQ6_K,
  kE4M3x32,
  kI8,
  kI16,
  kI32,
  kI64,
  kU8,
  kF64,
  kF8E4M3,
  kBool,
};

/// How a type is stored: `block` consecutive elements of a row take `bytes` bytes.
struct DTypeInfo {
  DType dtype;
  std::string_view name;  ///< lower case, as in config files: "bf16", "q4_1"
  int32_t block;
  int32_t bytes;
};

const DTypeInfo& dtype_info(DType dtype);
inline std::string_view dtype_name(DType dtype) { return dtype_info(dtype).name; }

/// True for the types a GEMM can read as a weight.
bool is_weight_dtype(DType dtype);

/// Bytes of a row of `cols` elements, or nothing when `cols` is not a whole number of blocks or the
/// size overflows.
std::optional<int64_t> row_bytes(DType dtype, int64_t cols);

}  // namespace foveal

#include "kernels/reference/dequant.h"

#include <cstring>

#include "base/check.h"
#include "base/half.h"

namespace foveal::kernels::reference {
namespace {

using Bytes = const uint8_t*;

uint16_t word(Bytes p) { return static_cast<uint16_t>(p[0] | (p[1] << 8)); }
float half(Bytes p) { return f16_to_float(word(p)); }
int nibble(Bytes p, int i) { return i < 16 ? p[i] & 15 : p[i - 16] >> 4; }
int bit(Bytes p, int i) { return (p[i / 8] >> (i % 8)) & 1; }

/// 6-bit scale (or minimum) `sub` of the 12 packed bytes of Q4_K and Q5_K.
int k_scale(Bytes p, int sub) {
  return sub < 4 ? p[sub] & 63 : (p[sub + 4] & 15) | ((p[sub - 4] >> 6) << 4);
}
int k_min(Bytes p, int sub) {
  return sub < 4 ? p[sub + 4] & 63 : (p[sub + 4] >> 4) | ((p[sub] >> 6) << 4);
}

float element_k(Bytes p, int i, bool five) {
  const int sub = i / 32;
  const Bytes quants = five ? p + 48 : p + 16;
  int q = (quants[sub / 2 * 32 + i % 32] >> (sub % 2 * 4)) & 15;
  if (five) q += ((p[16 + i % 32] >> sub) & 1) * 16;
  const float scale = half(p) * static_cast<float>(k_scale(p + 4, sub));
  const float min = half(p + 2) * static_cast<float>(k_min(p + 4, sub));
  return scale * static_cast<float>(q) - min;
}

float element_q6k(Bytes p, int i) {
  const int part = i / 128;
  const int within = i % 128;
  const int low = p[part * 64 + within % 64] >> (within / 64 * 4) & 15;
  const int high = p[128 + part * 32 + within % 32] >> (within / 32 * 2) & 3;
  const auto scale = static_cast<int8_t>(p[192 + i / 16]);
  return half(p + 208) * static_cast<float>(scale) * static_cast<float>(low + high * 16 - 32);
}

float element(DType dtype, Bytes p, int i) {
  switch (dtype) {
    case DType::kF32: {
      float value;
      std::memcpy(&value, p, sizeof(value));
      return value;
    }
    case DType::kF16:
      return half(p);
    case DType::kBF16:
      return bf16_to_float(word(p));
    case DType::kQ4_0:
      return half(p) * static_cast<float>(nibble(p + 2, i) - 8);
    case DType::kQ4_1:
      return half(p) * static_cast<float>(nibble(p + 4, i)) + half(p + 2);
    case DType::kQ5_0:
      return half(p) * static_cast<float>(nibble(p + 6, i) + 16 * bit(p + 2, i) - 16);
    case DType::kQ5_1:
      return half(p) * static_cast<float>(nibble(p + 8, i) + 16 * bit(p + 4, i)) + half(p + 2);
    case DType::kQ8_0:
      return half(p) * static_cast<float>(static_cast<int8_t>(p[2 + i]));
    case DType::kE4M3x32: {
      float scale = 0;
      std::memcpy(&scale, p, sizeof(scale));
      return scale * e4m3_to_float(p[4 + i]);
    }
    case DType::kQ4_K:
      return element_k(p, i, /*five=*/false);
    case DType::kQ5_K:
      return element_k(p, i, /*five=*/true);
    case DType::kQ6_K:
      return element_q6k(p, i);
    default:
      fail(ErrorKind::kUnsupported, "reference", "got {}; need a weight dtype", dtype_name(dtype));
  }
}

}  // namespace

std::vector<float> dequantize_row(const WeightView& weight, int64_t row) {
  const DTypeInfo& info = dtype_info(weight.dtype);
  std::vector<float> out(static_cast<size_t>(weight.cols));
  const auto* data = reinterpret_cast<Bytes>(weight.row(row));
  for (int64_t k = 0; k < weight.cols; ++k) {
    out[static_cast<size_t>(k)] =
        element(weight.dtype, data + k / info.block * info.bytes, static_cast<int>(k % info.block));
  }
  return out;
}

}  // namespace foveal::kernels::reference

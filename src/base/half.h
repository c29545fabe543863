#pragma once

#include <bit>
#include <cstdint>

namespace foveal {

/// Scalar conversions; the SIMD kernels must agree with these bit for bit (round to nearest even).
inline float bf16_to_float(uint16_t bits) {
  return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
}

inline uint16_t float_to_bf16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffffU) > 0x7f800000U)
    return static_cast<uint16_t>((bits >> 16) | 0x40U);  // NaN
  return static_cast<uint16_t>((bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16);
}

inline float f16_to_float(uint16_t bits) {
  const uint32_t sign = static_cast<uint32_t>(bits & 0x8000U) << 16;
  const uint32_t rest = bits & 0x7fffU;
  if (rest >= 0x7c00U) {  // infinity or NaN
    return std::bit_cast<float>(sign | 0x7f800000U | ((rest & 0x3ffU) << 13));
  }
  if (rest < 0x0400U) {  // zero or subnormal: value = rest * 2^-24, exact in float
    return std::bit_cast<float>(sign |
                                std::bit_cast<uint32_t>(static_cast<float>(rest) * 0x1p-24F));
  }
  return std::bit_cast<float>(sign | ((rest << 13) + 0x38000000U));
}

inline uint16_t float_to_f16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const auto sign = static_cast<uint16_t>((bits >> 16) & 0x8000U);
  const uint32_t magnitude = bits & 0x7fffffffU;
  if (magnitude > 0x7f800000U) return sign | 0x7e00U;
  if (magnitude >= 0x477ff000U) return sign | 0x7c00U;  // rounds past 65504
  if (magnitude < 0x38800000U) {  // below 2^-14: adding 0.5 aligns the mantissa to 2^-24 and rounds
    const float aligned = std::bit_cast<float>(magnitude) + 0.5F;
    return sign | static_cast<uint16_t>(std::bit_cast<uint32_t>(aligned) - 0x3f000000U);
  }
  const uint32_t rounded = magnitude + 0xfffU + ((magnitude >> 13) & 1U);
  return sign | static_cast<uint16_t>((rounded - 0x38000000U) >> 13);
}

/// Exact: 1 sign, 4 exponent and 3 mantissa bits; no infinities, NaN is all ones.
inline float e4m3_to_float(uint8_t bits) {
  const uint32_t sign = static_cast<uint32_t>(bits & 0x80U) << 24;
  const uint32_t rest = bits & 0x7fU;
  if (rest == 0x7fU) return std::bit_cast<float>(sign | 0x7fc00000U);
  if (rest < 8) {  // zero or subnormal: value = rest * 2^-9
    return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(static_cast<float>(rest) * 0x1p-9F));
  }
  return std::bit_cast<float>(sign | ((rest << 20) + 0x3c000000U));
}

/// Rounded to nearest even, held within 448; a NaN stays one.
inline uint8_t float_to_e4m3(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const auto sign = static_cast<uint8_t>((bits >> 24) & 0x80U);
  const uint32_t magnitude = bits & 0x7fffffffU;
  if (magnitude > 0x7f800000U) return sign | 0x7fU;
  if (magnitude >= 0x43e00000U) return sign | 0x7eU;  // 448
  if (magnitude < 0x3c800000U) {  // below 2^-6: adding 2^14 aligns the mantissa to 2^-9 and rounds
    const float aligned = std::bit_cast<float>(magnitude) + 0x1p14F;
    return sign | static_cast<uint8_t>(std::bit_cast<uint32_t>(aligned) - 0x46800000U);
  }
  const uint32_t rounded = magnitude + 0x7ffffU + ((magnitude >> 20) & 1U);
  return sign | static_cast<uint8_t>((rounded - 0x3c000000U) >> 20);
}

}  // namespace foveal

#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <vector>

#include "base/check.h"
#include "base/half.h"
#include "kernels/cpu/isa.h"
#include "kernels/gemm.h"

/// What the GEMM tests share: stored weights with random bytes and random activations.
namespace foveal::kernels::testing {

/// A weight and its bytes, stored at an odd address as a mapped file may have it.
struct StoredWeight {
  std::vector<uint8_t> bytes;
  WeightView view;

  StoredWeight(DType dtype, int64_t n, int64_t k, std::mt19937& rng) {
    const int64_t stride = *row_bytes(dtype, k);
    bytes.resize(static_cast<size_t>(n * stride) + 1);
    for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(rng());
    view = {reinterpret_cast<const std::byte*>(bytes.data() + 1), dtype, n, k, stride};
    const DTypeInfo& info = dtype_info(dtype);
    for (int64_t at = 0; at < n * stride; at += info.bytes) fix_block(dtype, &bytes[1 + at], rng);
  }
  StoredWeight(const StoredWeight&) = delete;
  StoredWeight& operator=(const StoredWeight&) = delete;

 private:
  static void put_half(uint8_t* at, std::mt19937& rng, float scale) {
    std::normal_distribution<float> normal(0, scale);
    const uint16_t bits = float_to_f16(normal(rng));
    std::memcpy(at, &bits, sizeof(bits));
  }

  /// Every byte is random but scales and floats, which must be finite and of a sensible size.
  static void fix_block(DType dtype, uint8_t* block, std::mt19937& rng) {
    std::normal_distribution<float> normal(0, 1);
    switch (dtype) {
      case DType::kF32: {
        const float value = normal(rng);
        std::memcpy(block, &value, sizeof(value));
        return;
      }
      case DType::kBF16: {
        const uint16_t bits = float_to_bf16(normal(rng));
        std::memcpy(block, &bits, sizeof(bits));
        return;
      }
      case DType::kQ6_K:
        return put_half(block + 208, rng, 0.001F);
      case DType::kQ4_1:
      case DType::kQ5_1:
        put_half(block + 2, rng, 0.5F);
        return put_half(block, rng, 0.1F);
      case DType::kQ4_K:
      case DType::kQ5_K:
        put_half(block + 2, rng, 0.01F);
        return put_half(block, rng, 0.002F);
      case DType::kE4M3x32: {
        const float scale = 0.02F * normal(rng);  // no power of two
        std::memcpy(block, &scale, sizeof(scale));
        for (int idx = 4; idx < 36; ++idx) {
          if ((block[idx] & 0x7fU) == 0x7fU) block[idx] = 0;  // NaN
        }
        return;
      }
      case DType::kF16:
        return put_half(block, rng, 1);
      default:
        return put_half(block, rng, 0.05F);
    }
  }
};

inline std::vector<float> random_floats(int64_t count, std::mt19937& rng) {
  std::normal_distribution<float> normal(0, 1);
  std::vector<float> out(static_cast<size_t>(count));
  for (float& value : out) value = normal(rng);
  return out;
}

inline const std::vector<DType>& weight_dtypes() {
  static const std::vector<DType> all{DType::kF32,  DType::kF16,  DType::kBF16, DType::kQ4_0,
                                      DType::kQ4_1, DType::kQ5_0, DType::kQ5_1, DType::kQ8_0,
                                      DType::kQ4_K, DType::kQ5_K, DType::kQ6_K, DType::kE4M3x32};
  return all;
}

/// Runs `body` at every instruction-set level of this machine.
template <class Body>
void for_each_isa(Body body) {
  for (int level = 0; level <= static_cast<int>(cpu::machine_isa()); ++level) {
    const auto isa = static_cast<cpu::Isa>(level);
    SCOPED_TRACE(std::string(cpu::isa_name(isa)));
    cpu::set_active_isa(isa);
    body(isa);
  }
  cpu::set_active_isa(cpu::machine_isa());
}

}  // namespace foveal::kernels::testing

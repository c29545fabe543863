#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <random>
#include <vector>

#include "base/dtype.h"
#include "base/half.h"

namespace foveal::kernels::testing {

/// Large finite values, so that a slot past a sequence's length shows when it is used.
inline void fill_garbage(std::vector<std::byte>& bytes, DType dtype, std::mt19937_64& rng) {
  std::normal_distribution<float> normal(0, dtype == DType::kF16 ? 1e4F : 1e30F);
  const size_t size = dtype == DType::kF32 ? 4 : 2;
  for (size_t at = 0; at + size <= bytes.size(); at += size) {
    const float value = normal(rng);
    const uint16_t bits =
        dtype == DType::kF16 ? float_to_f16(std::clamp(value, -6e4F, 6e4F)) : float_to_bf16(value);
    if (size == 4) {
      std::memcpy(&bytes[at], &value, 4);
    } else {
      std::memcpy(&bytes[at], &bits, 2);
    }
  }
}

}  // namespace foveal::kernels::testing

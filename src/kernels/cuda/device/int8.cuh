#pragma once

#include <cmath>
#include <cstdint>

namespace foveal::cuda {

/// Rounding to int8 with the largest of a group at 127. Every operation is rounded once, as written
/// here, so that others can compute the same integers.
struct Int8Scale {
  float unit;     ///< of the integers
  float inverse;  ///< 0 for a group of next to nothing

  __device__ explicit Int8Scale(float largest)
      : unit(largest / 127.0F), inverse(largest > 1e-30F ? 127.0F / largest : 0.0F) {}

  /// Four values, to nearest, the first in the lowest byte: added to 1.5 * 2^23 they are in the
  /// sum's last bits.
  __device__ uint32_t round(float a, float b, float c, float d) const {
    const uint32_t low = __byte_perm(bits(a), bits(b), 0x0040);
    const uint32_t high = __byte_perm(bits(c), bits(d), 0x0040);
    return __byte_perm(low, high, 0x5410);
  }

 private:
  __device__ uint32_t bits(float x) const { return __float_as_uint(fmaf(x, inverse, 12582912.0F)); }
};

}  // namespace foveal::cuda

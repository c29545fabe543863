#include "attention/rocket/rocket_isa.h"
#include "kernels/cpu/simd/vec.h"

namespace foveal::kernels::cpu::FOVEAL_ISA_NS {
namespace {

FOVEAL_SIMD int32_t bits_of(const float* x) {
  int32_t bits = 0;
  __builtin_memcpy(&bits, x, sizeof(bits));
  return bits;
}

/// Values of at least `bound`, which the bits of numbers from 0 on are ordered as. A loop that
/// becomes vectors.
FOVEAL_SIMD int32_t count_from(const float* x, int32_t n, int32_t bound) {
  int32_t count = 0;
  for (int32_t at = 0; at < n; ++at) count += bits_of(x + at) >= bound ? 1 : 0;
  return count;
}

}  // namespace

// Computes:  out = indices of the k largest of ranks, of equals the lowest, ascending
// In/out:    ranks [n] float32, 0 or more, finite; out [k] int32
// Units:     none
// Launch:    one call a (sequence, KV head)
// Needs:     0 <= k <= n
// Numerics:  exact: the k-th largest is found by bisection of its bits
// Source:    ours
// Measured:  README.md of this room
void rocket_top(const float* ranks, int32_t n, int32_t k, int32_t* out) {
  int32_t from = 0;           // at least k values are from here on
  int32_t below = INT32_MAX;  // fewer than k are from here on
  int32_t above = 0;          // values from `below` on
  while (k > 0 && below - from > 1) {
    const int32_t middle = from + (below - from) / 2;
    const int32_t count = count_from(ranks, n, middle);
    if (count >= k) {
      from = middle;
      if (count == k) break;  // what lies between this value and the k-th is no matter
    } else {
      below = middle;
      above = count;
    }
  }
  // Now `from` is the k-th largest, or cuts off exactly k values.
  int32_t ties = k - above;
  for (int32_t at = 0; at < n && k > 0; ++at) {
    const int32_t bits = bits_of(ranks + at);
    if (bits < from || (bits < below && ties-- <= 0)) continue;
    *out++ = at;
  }
}

}  // namespace foveal::kernels::cpu::FOVEAL_ISA_NS

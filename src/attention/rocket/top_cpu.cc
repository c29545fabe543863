#include "attention/rocket/rocket_isa.h"
#include "kernels/cpu/simd/compress.h"
#include "kernels/cpu/simd/vec.h"

namespace foveal::kernels::cpu::FOVEAL_ISA_NS {
namespace {

/// As many values are searched further in a copy of them alone.
constexpr int32_t kFew = 1024;
constexpr int kSide = 4;  ///< counts side by side: an addition waits for the one before it

FOVEAL_SIMD int32_t bits_of(float x) {
  int32_t bits = 0;
  __builtin_memcpy(&bits, &x, sizeof(bits));
  return bits;
}

FOVEAL_SIMD F32 float_of(int32_t bits) {
  float x = 0;
  __builtin_memcpy(&x, &bits, sizeof(x));
  return set1(x);
}

/// Bits of the lanes at `at` whose values are `from` or more.
FOVEAL_SIMD uint32_t lanes_from(const float* x, int32_t at, int32_t n, F32 from) {
  const int left = n - at < kLanes ? n - at : kLanes;
  return lane_bits(le(from, load_n(x + at, left)) & mask_first(left));
}

FOVEAL_SIMD F32 one_from(F32 from, F32 x) { return select(le(from, x), set1(1), zero()); }

/// Values of at least `bound`. Sums of ones are exact in float32 up to 2^24 a lane.
FOVEAL_SIMD int32_t count_from(const float* x, int32_t n, int32_t bound) {
  const F32 from = float_of(bound);
  F32 counts[kSide] = {zero(), zero(), zero(), zero()};
  int32_t at = 0;
  for (; at + kSide * kLanes <= n; at += kSide * kLanes) {
#pragma GCC unroll 4
    for (int side = 0; side < kSide; ++side) {
      counts[side] = counts[side] + one_from(from, load(x + at + side * kLanes));
    }
  }
  auto count =
      static_cast<int32_t>(reduce_add(counts[0] + counts[1]) + reduce_add(counts[2] + counts[3]));
  for (; at < n; at += kLanes) count += __builtin_popcount(lanes_from(x, at, n, from));
  return count;
}

/// The search for the k-th largest: `from` has at least k values from it on, `below` fewer.
struct Cut {
  int32_t from = 0;
  int32_t below = 0;
  int32_t counted = 0;  ///< values from `from` on
  int32_t above = 0;    ///< values from `below` on

  bool done(int32_t k) const { return counted == k || below - from <= 1; }
  int32_t between() const { return counted - above; }

  /// Halves the range; `x` has all values of it, and `outside` larger ones are elsewhere.
  void halve(const float* x, int32_t n, int32_t outside, int32_t k) {
    const int32_t middle = from + (below - from) / 2;
    const int32_t count = count_from(x, n, middle) + outside;
    if (count >= k) {
      from = middle;
      counted = count;
    } else {
      below = middle;
      above = count;
    }
  }
};

FOVEAL_SIMD Cut open_cut(const float* x, int32_t n) {
  float least = x[0];
  float most = x[0];
  int32_t at = 0;
  if (n >= kLanes) {
    F32 low = load(x);
    F32 high = low;
    for (; at + kLanes <= n; at += kLanes) {
      low = min(low, load(x + at));
      high = max(high, load(x + at));
    }
    least = 0.0F - reduce_max(zero() - low);  // never -0, whose bits are the least of all
    most = reduce_max(high);
  }
  for (; at < n; ++at) {
    least = x[at] < least ? x[at] : least;
    most = x[at] > most ? x[at] : most;
  }
  return {.from = bits_of(least), .below = bits_of(most) + 1, .counted = n};
}

/// Copies the values between the cut's ends to `out`, which has room for them and a vector.
FOVEAL_SIMD int32_t copy_between(const float* x, int32_t n, const Cut& cut, float* out) {
  const F32 from = float_of(cut.from);
  const F32 below = float_of(cut.below);
  int32_t count = 0;
  int32_t at = 0;
  for (; at + kLanes <= n; at += kLanes) {
    const F32 values = load(x + at);
    count += compress(x + at, le(from, values) & lt(values, below), out + count);
  }
  for (; at < n; ++at) {
    const int32_t bits = bits_of(x[at]);
    if (bits >= cut.from && bits < cut.below) out[count++] = x[at];
  }
  return count;
}

/// Writes the k places of all values from `below` on and of the first `ties` between the ends.
FOVEAL_SIMD void list_places(const float* x, int32_t n, const Cut& cut, int32_t ties, int32_t k,
                             int32_t* out) {
  const F32 from = float_of(cut.from);
  const F32 below = float_of(cut.below);
  int32_t count = 0;
  int32_t at = 0;
  for (; at + kLanes <= n && count + kLanes <= k; at += kLanes) {
    const F32 values = load(x + at);
    const Mask chosen = le(from, values);
    const int tied = __builtin_popcount(lane_bits(chosen & lt(values, below)));
    if (tied > ties) break;
    ties -= tied;
    count += compress_places(at, chosen, out + count);
  }
  for (; at < n && count < k; ++at) {
    const int32_t bits = bits_of(x[at]);
    if (bits < cut.from || (bits < cut.below && ties-- <= 0)) continue;
    out[count++] = at;
  }
}

}  // namespace

// Computes:  out = indices of the k largest of ranks, of equals the lowest, ascending
// In/out:    ranks [n] float32, 0 or more, finite; out [k] int32
// Units:     none
// Launch:    one call a (sequence, KV head)
// Needs:     0 <= k <= n
// Numerics:  exact: the k-th largest is found by bisection of its bits, which numbers from 0 on are
//            ordered as
// Source:    ours
// Measured:  README.md of this room
void rocket_top(const float* ranks, int32_t n, int32_t k, int32_t* out) {
  if (k == 0) return;
  Cut cut = open_cut(ranks, n);
  while (!cut.done(k) && cut.between() > kFew) cut.halve(ranks, n, 0, k);
  if (!cut.done(k) && n > kFew) {
    float few[kFew + kLanes];
    const int32_t outside = cut.above;
    const int32_t count = copy_between(ranks, n, cut, few);
    while (!cut.done(k)) cut.halve(few, count, outside, k);
  }
  while (!cut.done(k)) cut.halve(ranks, n, 0, k);
  // Now `from` is the k-th largest, or cuts off exactly k values.
  list_places(ranks, n, cut, cut.counted == k ? k : k - cut.above, k, out);
}

}  // namespace foveal::kernels::cpu::FOVEAL_ISA_NS

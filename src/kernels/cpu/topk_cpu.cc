#include "kernels/cpu/simd/vec.h"
#include "kernels/cpu/topk_item.h"

namespace foveal::kernels::cpu::FOVEAL_ISA_NS {
namespace {

// Computes:  the indices of values >= threshold, ascending
// In/out:    values [n] float32; out [room] int32
// Units:     n below 2^31
// Launch:    one call a row, on the calling thread
// Needs:     nothing
// Numerics:  exact
// Source:    ours; most blocks have none, which is one compare a vector
// Measured:  src/attention/dsa/README.md
int64_t topk_at_least(const float* values, int64_t n, float threshold, int32_t* out, int64_t room) {
  constexpr int kVecs = 4;
  constexpr int64_t kBlock = static_cast<int64_t>(kVecs) * kLanes;
  const F32 bound = set1(threshold);
  int64_t count = 0;
  const auto take = [&](int64_t begin, int64_t end) {
    for (int64_t idx = begin; idx < end && count < room; ++idx) {
      if (values[idx] >= threshold) out[count++] = static_cast<int32_t>(idx);
    }
  };
  int64_t at = 0;
  for (; at + kBlock <= n && count < room; at += kBlock) {
    Mask found = le(bound, load(values + at));
    for (int vec = 1; vec < kVecs; ++vec)
      found = found | le(bound, load(values + at + vec * kLanes));
    if (any(found)) take(at, at + kBlock);
  }
  take(at, n);
  return count;
}

}  // namespace

extern const TopKKernels kTopKKernels;
const TopKKernels kTopKKernels = {.at_least = topk_at_least};

}  // namespace foveal::kernels::cpu::FOVEAL_ISA_NS

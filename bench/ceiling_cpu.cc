#include "ceiling.h"
#include "kernels/cpu/simd/vec.h"

namespace foveal::kernels::cpu::FOVEAL_ISA_NS {
namespace {

// Enough independent chains to fill two units of latency four, within 16 registers.
constexpr int kChains = 12;

float f32_loop(int64_t iterations) {
  F32 acc[kChains];
#pragma GCC unroll 12
  for (int idx = 0; idx < kChains; ++idx) acc[idx] = set1(static_cast<float>(idx));
  const F32 a = set1(0.999F);
  const F32 b = set1(1e-6F);
  for (int64_t iter = 0; iter < iterations; ++iter) {
#pragma GCC unroll 12
    for (int idx = 0; idx < kChains; ++idx) acc[idx] = fma(acc[idx], a, b);
  }
  F32 sum = zero();
#pragma GCC unroll 12
  for (int idx = 0; idx < kChains; ++idx) sum = sum + acc[idx];
  return reduce_add(sum);
}

float pair_loop(int64_t iterations) {
  F32 acc[kChains];
#pragma GCC unroll 12
  for (int idx = 0; idx < kChains; ++idx) acc[idx] = set1(static_cast<float>(idx));
  const Pairs a = set1_pair(0x3f803f80U);
  const Pairs b = set1_pair(0x3a003a00U);
  for (int64_t iter = 0; iter < iterations; ++iter) {
#pragma GCC unroll 12
    for (int idx = 0; idx < kChains; ++idx) acc[idx] = dot(acc[idx], a, b);
  }
  F32 sum = zero();
#pragma GCC unroll 12
  for (int idx = 0; idx < kChains; ++idx) sum = sum + acc[idx];
  return reduce_add(sum);
}

float read_loop(const uint8_t* data, int64_t bytes) {
  F32 acc[4] = {zero(), zero(), zero(), zero()};
  constexpr int64_t kVector = 4 * kLanes;
  const auto* values = reinterpret_cast<const float*>(data);
  for (int64_t at = 0; at + 4 * kVector <= bytes; at += 4 * kVector) {
#pragma GCC unroll 4
    for (int idx = 0; idx < 4; ++idx)
      acc[idx] = max(load(values + at / 4 + idx * kLanes), acc[idx]);
  }
  return reduce_max(max(max(acc[0], acc[1]), max(acc[2], acc[3])));
}

}  // namespace

extern const bench::CeilingLoops kCeilingLoops;
const bench::CeilingLoops kCeilingLoops{
    .f32_flops = 2 * kLanes * kChains,
    .pair_flops = FOVEAL_ISA_LEVEL >= 3 ? 4 * kLanes * kChains : 0,
    .f32 = f32_loop,
    .pairs = pair_loop,
    .read = read_loop,
};

}  // namespace foveal::kernels::cpu::FOVEAL_ISA_NS

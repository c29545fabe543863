#include "kernels/cpu/simd/vec_probe.h"

#include "kernels/cpu/simd/e4m3.h"
#include "kernels/cpu/simd/vec.h"

namespace foveal::kernels::cpu::FOVEAL_ISA_NS {
namespace {

template <class Function>
FOVEAL_SIMD void map(const float* x, float* y, int n, Function function) {
  for (int at = 0; at < n; at += kLanes) {
    const int count = n - at < kLanes ? n - at : kLanes;
    store_n(y + at, function(load_n(x + at, count)), count);
  }
}

/// The whole-vector forms where they fit, the others for the rest.
template <class Whole, class Part>
FOVEAL_SIMD void split(int n, Whole whole, Part part) {
  int at = 0;
  for (; at + kLanes <= n; at += kLanes) whole(at);
  if (at < n) part(at, n - at);
}

}  // namespace

const VecProbe kVecProbe = {
    .lanes = kLanes,
    .exp = [](const float* x, float* y, int n) { map(x, y, n, [](F32 a) { return exp(a); }); },
    .exp2 = [](const float* x, float* y, int n) { map(x, y, n, [](F32 a) { return exp2(a); }); },
    .tanh = [](const float* x, float* y, int n) { map(x, y, n, [](F32 a) { return tanh(a); }); },
    .erf = [](const float* x, float* y, int n) { map(x, y, n, [](F32 a) { return erf(a); }); },
    .sigmoid = [](const float* x, float* y,
                  int n) { map(x, y, n, [](F32 a) { return sigmoid(a); }); },
    .round = [](const float* x, float* y, int n) { map(x, y, n, [](F32 a) { return round(a); }); },
    .from_bf16 =
        [](const uint16_t* x, float* y, int n) {
          split(
              n, [&](int at) { store(y + at, load_bf16(x + at)); },
              [&](int at, int count) { store_n(y + at, load_bf16_n(x + at, count), count); });
        },
    .to_bf16 =
        [](const float* x, uint16_t* y, int n) {
          split(
              n, [&](int at) { store_bf16(y + at, load(x + at)); },
              [&](int at, int count) { store_bf16_n(y + at, load_n(x + at, count), count); });
        },
    .from_f16 =
        [](const uint16_t* x, float* y, int n) {
          split(
              n, [&](int at) { store(y + at, load_f16(x + at)); },
              [&](int at, int count) { store_n(y + at, load_f16_n(x + at, count), count); });
        },
    .to_f16 =
        [](const float* x, uint16_t* y, int n) {
          split(
              n, [&](int at) { store_f16(y + at, load(x + at)); },
              [&](int at, int count) { store_f16_n(y + at, load_n(x + at, count), count); });
        },
    .from_e4m3 =
        [](const uint8_t* x, float* y) {
          for (int at = 0; at < 256; at += kLanes) store(y + at, load_e4m3(x + at));
#if FOVEAL_ISA_LEVEL >= 3
          for (int at = 0; at < 192; at += 64) {  // the others as float32
            Pairs halves[2];
            widen_e4m3(x + at, 64, halves[0], halves[1]);
            for (int idx = 0; idx < 64; ++idx) {
              uint16_t bits[2 * kLanes];
              store_pairs(bits, halves[idx / (2 * kLanes)]);
              const uint32_t wide = static_cast<uint32_t>(bits[idx % (2 * kLanes)]) << 16;
              __builtin_memcpy(y + at + idx, &wide, sizeof(wide));
            }
          }
#endif
        },
    .sum = [](const float* x) { return reduce_add(load(x)); },
    .max = [](const float* x) { return reduce_max(load(x)); },
    .pair_dot =
        [](const float* even, const float* odd, float p, float q, const float* c, float* y) {
          const Pairs cells = pack_pairs(load(even), load(odd));
          store(y, dot(load(c), cells, pack_pairs(set1(p), set1(q))));
        },
};

}  // namespace foveal::kernels::cpu::FOVEAL_ISA_NS

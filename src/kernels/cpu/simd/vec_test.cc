#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "base/half.h"
#include "kernels/cpu/isa.h"
#include "kernels/cpu/simd/vec_probe.h"

namespace foveal::kernels::cpu {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

std::vector<const VecProbe*> probes() {
  std::vector<const VecProbe*> all{&portable::kVecProbe};
#if defined(__x86_64__)
  if (machine_isa() >= Isa::kAvx2) all.push_back(&avx2::kVecProbe);
  if (machine_isa() >= Isa::kAvx512) all.push_back(&avx512::kVecProbe);
  if (machine_isa() >= Isa::kAvx512Bf16) all.push_back(&avx512bf16::kVecProbe);
#endif
  return all;
}

/// Random arguments over a range, an odd number of them.
std::vector<float> spread(float low, float high) {
  std::mt19937_64 rng(std::random_device{}());
  std::uniform_real_distribution<float> uniform(low, high);
  std::vector<float> x(20'001);
  for (float& value : x) value = uniform(rng);
  return x;
}

void expect_close(void (*function)(const float*, float*, int), double (*truth)(double), float low,
                  float high, double relative) {
  const std::vector<float> x = spread(low, high);
  std::vector<float> y(x.size());
  function(x.data(), y.data(), static_cast<int>(x.size()));
  for (size_t at = 0; at < x.size(); ++at) {
    const double want = truth(x[at]);
    // below the smallest normal a float has no relative accuracy: half a step there
    ASSERT_LE(std::abs(y[at] - want), relative * std::abs(want) + 0x1p-149) << "at " << x[at];
  }
}

float apply(void (*function)(const float*, float*, int), float x) {
  float y = 0;
  function(&x, &y, 1);
  return y;
}

TEST(Vec, FunctionsAreAccurate) {
  for (const VecProbe* probe : probes()) {
    SCOPED_TRACE(probe->lanes);
    expect_close(probe->exp, std::exp, -103, 88.7F, 2e-7);
    expect_close(probe->exp, std::exp, -1, 1, 2e-7);
    expect_close(probe->exp2, std::exp2, -149, 127.9F, 2e-7);
    expect_close(probe->tanh, std::tanh, -12, 12, 3e-7);
    expect_close(probe->tanh, std::tanh, -0.01F, 0.01F, 3e-7);
    expect_close(probe->erf, std::erf, -5, 5, 4e-7);
    expect_close(probe->erf, std::erf, -0.01F, 0.01F, 4e-7);
    expect_close(probe->sigmoid, [](double x) { return 1 / (1 + std::exp(-x)); }, -80, 80, 5e-7);
  }
}

TEST(Vec, FunctionsHaveTheRightEdges) {
  for (const VecProbe* probe : probes()) {
    SCOPED_TRACE(probe->lanes);
    for (const auto function : {probe->exp, probe->exp2}) {
      EXPECT_EQ(apply(function, -kInf), 0);
      EXPECT_EQ(apply(function, -1e30F), 0);
      EXPECT_EQ(apply(function, -200), 0);
      EXPECT_EQ(apply(function, 0), 1);
      EXPECT_EQ(apply(function, 200), kInf);
      EXPECT_EQ(apply(function, kInf), kInf);
      EXPECT_TRUE(std::isnan(apply(function, kNan)));
    }
    for (const auto function : {probe->tanh, probe->erf}) {
      EXPECT_EQ(apply(function, 40), 1);
      EXPECT_EQ(apply(function, -kInf), -1);
      EXPECT_EQ(std::bit_cast<uint32_t>(apply(function, -0.0F)), 0x80000000U);
    }
    EXPECT_EQ(apply(probe->sigmoid, -kInf), 0);
    EXPECT_EQ(apply(probe->sigmoid, kInf), 1);
    EXPECT_EQ(apply(probe->round, 2.5F), 2);
    EXPECT_EQ(apply(probe->round, -3.5F), -4);
    EXPECT_EQ(apply(probe->round, 8388609.0F), 8388609);
    EXPECT_EQ(apply(probe->round, -0.4F), 0);
  }
}

TEST(Vec, ReadsEveryE4m3) {
  uint8_t codes[256];
  for (int code = 0; code < 256; ++code) codes[code] = static_cast<uint8_t>(code);
  for (const VecProbe* probe : probes()) {
    SCOPED_TRACE(probe->lanes);
    float values[256];
    probe->from_e4m3(codes, values);
    for (int code = 0; code < 256; ++code) {
      const float want = e4m3_to_float(codes[code]);
      EXPECT_EQ(std::bit_cast<uint32_t>(values[code]), std::bit_cast<uint32_t>(want)) << code;
    }
  }
}

TEST(Vec, ReadsEveryHalf) {
  std::vector<uint16_t> bits(65'536);
  for (size_t at = 0; at < bits.size(); ++at) bits[at] = static_cast<uint16_t>(at);
  std::vector<float> got(bits.size());
  for (const VecProbe* probe : probes()) {
    SCOPED_TRACE(probe->lanes);
    probe->from_bf16(bits.data(), got.data(), 65'535);
    for (uint32_t at = 0; at < 65'535; ++at) {
      const float want = bf16_to_float(bits[at]);
      ASSERT_EQ(std::bit_cast<uint32_t>(got[at]), std::bit_cast<uint32_t>(want)) << at;
    }
    probe->from_f16(bits.data(), got.data(), 65'535);
    for (uint32_t at = 0; at < 65'535; ++at) {
      const float want = f16_to_float(bits[at]);
      if (std::isnan(want)) {
        ASSERT_TRUE(std::isnan(got[at])) << at;
      } else {
        ASSERT_EQ(std::bit_cast<uint32_t>(got[at]), std::bit_cast<uint32_t>(want)) << at;
      }
    }
  }
}

TEST(Vec, RoundsToHalvesLikeHalf) {
  std::mt19937_64 rng(std::random_device{}());
  std::vector<float> x{0.0F,  -0.0F,    kInf,     -kInf,    kNan,
                       -kNan, 65504.0F, 65519.9F, 65520.0F, 3.4e38F};
  for (int at = 0; at < 40'000; ++at) {
    // any bits; or near a tie of bf16, or of f16 (also subnormal ones)
    uint32_t bits = static_cast<uint32_t>(rng());
    if (at % 4 == 1) bits = (bits & 0xffff0000U) | 0x8000U | (bits & 1U);
    if (at % 4 == 2) bits = (bits & 0x8fffe000U) | 0x30000000U | 0x1000U | (bits & 1U);
    x.push_back(std::bit_cast<float>(bits));
  }
  x.push_back(1.0F);  // an odd count
  std::vector<uint16_t> got(x.size());
  for (const VecProbe* probe : probes()) {
    SCOPED_TRACE(probe->lanes);
    probe->to_bf16(x.data(), got.data(), static_cast<int>(x.size()));
    for (size_t at = 0; at < x.size(); ++at) ASSERT_EQ(got[at], float_to_bf16(x[at])) << x[at];
    probe->to_f16(x.data(), got.data(), static_cast<int>(x.size()));
    for (size_t at = 0; at < x.size(); ++at) ASSERT_EQ(got[at], float_to_f16(x[at])) << x[at];
  }
}

TEST(Vec, ReducesAndMultipliesPairs) {
  const std::vector<float> even = spread(-2, 2);
  const std::vector<float> odd = spread(-2, 2);
  for (const VecProbe* probe : probes()) {
    SCOPED_TRACE(probe->lanes);
    double sum = 0;
    float max = -kInf;
    for (int lane = 0; lane < probe->lanes; ++lane) {
      sum += even[lane];
      max = std::max(max, even[lane]);
    }
    EXPECT_NEAR(probe->sum(even.data()), sum, probe->lanes * 2.0 * probe->lanes * 0x1p-24);
    EXPECT_EQ(probe->max(even.data()), max);
    std::vector<float> y(probe->lanes);
    probe->pair_dot(even.data(), odd.data(), 0.75F, -1.5F, odd.data(), y.data());
    for (int lane = 0; lane < probe->lanes; ++lane) {
      const double want = double{odd[lane]} + 0.75 * bf16_to_float(float_to_bf16(even[lane])) -
                          1.5 * bf16_to_float(float_to_bf16(odd[lane]));
      EXPECT_NEAR(y[lane], want, 8 * 0x1p-23);  // three terms of at most 3, each rounded once
    }
  }
}

}  // namespace
}  // namespace foveal::kernels::cpu

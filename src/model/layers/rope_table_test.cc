#include "model/layers/rope_table.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "foveal/error.h"

namespace foveal::model {
namespace {

constexpr int32_t kRotary = 128;
constexpr size_t kHalf = kRotary / 2;

RopeConfig scaled(RopeConfig::Scaling scaling) {
  RopeConfig out;
  out.theta = 500000.0;
  out.scaling = scaling;
  out.factor = 8.0;
  out.original_max_positions = 8192;
  return out;
}

std::vector<float> plain() {
  return rope_frequencies(scaled(RopeConfig::Scaling::kNone), kRotary, 1).inverse;
}

TEST(RopeFrequencies, AreAGeometricSeries) {
  const std::vector<float> freqs = plain();
  ASSERT_EQ(freqs.size(), kHalf);
  EXPECT_EQ(freqs[0], 1.0F);
  for (size_t idx = 0; idx < kHalf; ++idx) {
    const double want = std::pow(500000.0, -2.0 * static_cast<double>(idx) / kRotary);
    EXPECT_NEAR(freqs[idx], want,
                want * 4e-7);  // three float32 roundings: exponent, power, inverse
  }
}

TEST(RopeFrequencies, LinearDividesAll) {
  const auto got = rope_frequencies(scaled(RopeConfig::Scaling::kLinear), kRotary, 1).inverse;
  for (size_t idx = 0; idx < kHalf; ++idx) EXPECT_FLOAT_EQ(got[idx], plain()[idx] / 8);
}

// Wavelengths below original / 4 stay, above original / 1 stretch by the factor, blended between.
TEST(RopeFrequencies, Llama3KeepsShortWavesAndStretchesLong) {
  const auto got = rope_frequencies(scaled(RopeConfig::Scaling::kLlama3), kRotary, 1).inverse;
  int kept = 0;
  int stretched = 0;
  for (size_t idx = 0; idx < kHalf; ++idx) {
    const double wavelength = 2 * M_PI / plain()[idx];
    if (wavelength < 8192.0 / 4) {
      EXPECT_EQ(got[idx], plain()[idx]);
      ++kept;
    } else if (wavelength > 8192.0) {
      EXPECT_FLOAT_EQ(got[idx], plain()[idx] / 8);
      ++stretched;
    } else {
      EXPECT_LE(got[idx], plain()[idx]);
      EXPECT_GE(got[idx], plain()[idx] / 8);
    }
  }
  EXPECT_GT(kept, 10);
  EXPECT_GT(stretched, 10);
}

TEST(RopeFrequencies, YarnRampsAndScalesAttention) {
  const RopeFrequencies got = rope_frequencies(scaled(RopeConfig::Scaling::kYarn), kRotary, 1);
  EXPECT_FLOAT_EQ(got.inverse.front(), plain().front());
  EXPECT_FLOAT_EQ(got.inverse.back(), plain().back() / 8);
  double last_ratio = 1.0 + 1e-6;
  for (size_t idx = 0; idx < kHalf; ++idx) {
    const double ratio = got.inverse[idx] / plain()[idx];
    EXPECT_LE(ratio, last_ratio + 1e-6) << idx;
    last_ratio = ratio;
  }
  EXPECT_NEAR(got.attention_factor, 0.1 * std::log(8.0) + 1.0, 1e-12);
}

// Half a channel of the 64 is a hundredth of the ramp, which untruncated lies within the truncated.
TEST(RopeFrequencies, YarnsBandMayBeginAndEndBetweenChannels) {
  RopeConfig config = scaled(RopeConfig::Scaling::kYarn);
  const std::vector<float> whole = rope_frequencies(config, kRotary, 1).inverse;
  config.truncate = false;
  const std::vector<float> between = rope_frequencies(config, kRotary, 1).inverse;
  const double turns = 8192 / (2 * M_PI);
  const auto channel_of = [&](double beta) {
    return kRotary * std::log(turns / beta) / (2 * std::log(500000.0));
  };
  const double low = channel_of(32);
  const double high = channel_of(1);
  EXPECT_NE(whole, between);
  for (size_t idx = 0; idx < kHalf; ++idx) {
    const double ramp = std::clamp((static_cast<double>(idx) - low) / (high - low), 0.0, 1.0);
    const double want = plain()[idx] * (1 - ramp + ramp / 8);
    EXPECT_NEAR(between[idx], want, want * 1e-6) << idx;
  }
}

TEST(RopeFrequencies, LongRopeTakesTheFactorsOfTheContext) {
  RopeConfig config = scaled(RopeConfig::Scaling::kLongRope);
  config.short_factor.assign(kHalf, 1.0);
  config.long_factor.assign(kHalf, 4.0);
  EXPECT_EQ(rope_frequencies(config, kRotary, 8192).inverse, plain());
  EXPECT_FLOAT_EQ(rope_frequencies(config, kRotary, 8193).inverse[5], plain()[5] / 4);
  config.long_factor.pop_back();
  EXPECT_THROW(rope_frequencies(config, kRotary, 8193), Error);
}

TEST(RopeTable, IsCosAndSinOfRoundedAngles) {
  ThreadPool pool(2);
  const RopeConfig config = scaled(RopeConfig::Scaling::kNone);
  const RopeTable table(config, kRotary, 700, pool);
  for (const int64_t position : {0, 1, 255, 256, 699}) {
    for (const size_t idx : {size_t{0}, size_t{17}, kHalf - 1}) {
      const float angle = static_cast<float>(position) * plain()[idx];
      const auto at = static_cast<size_t>(position) * kHalf + idx;
      EXPECT_NEAR(table.cos()[at], std::cos(double{angle}), 6e-8);  // half a float32 ulp of 1
      EXPECT_NEAR(table.sin()[at], std::sin(double{angle}), 6e-8);
    }
  }
}

}  // namespace
}  // namespace foveal::model

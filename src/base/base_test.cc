#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <string>

#include "base/check.h"
#include "base/dtype.h"
#include "base/half.h"
#include "base/math.h"

namespace foveal {
namespace {

TEST(Error, IsOneLineWhateverTheInput) {
  try {
    fail(ErrorKind::kCorruptFile, "gguf", "got '{}'; need text", "a\nb\x01");
    FAIL() << "must throw";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kCorruptFile);
    EXPECT_STREQ(error.what(), "[gguf] got 'a\\x0ab\\x01'; need text");
  }
}

TEST(Error, IsOneLineWhateverThePlace) {
  try {
    fail(ErrorKind::kNotFound, "a\nb\x1b[31m", "got nothing; need a file");
    FAIL() << "must throw";
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(), "[a\\x0ab\\x1b[31m] got nothing; need a file");
  }
}

TEST(Error, CutsFloodsButKeepsWhatIsNeeded) {
  for (const char filler : {'y', '\0', '\xa9'}) {
    const std::string flood(1 << 20, filler);
    try {
      fail(ErrorKind::kCorruptFile, flood, "got {}; need less", flood);
      FAIL() << "must throw";
    } catch (const Error& error) {
      const std::string text = error.what();
      EXPECT_LT(text.size(), 2500U);
      EXPECT_TRUE(text.ends_with("; need less")) << text;
    }
  }
}

TEST(Error, CutsLongNamesButKeepsTheSentence) {
  const std::string name(100000, 'A');
  try {
    fail(ErrorKind::kCorruptFile, "config.json", "got type '{}' of '{}'; need a known one", name,
         "model");
    FAIL() << "must throw";
  } catch (const Error& error) {
    EXPECT_EQ(error.what(), "[config.json] got type '" + std::string(149, 'A') + "..." +
                                std::string(49, 'A') + "' of 'model'; need a known one");
  }
}

TEST(Math, OverflowIsAbsence) {
  EXPECT_EQ(checked_mul(1LL << 40, 1LL << 40), std::nullopt);
  EXPECT_EQ(checked_add(INT64_MAX, 1), std::nullopt);
  EXPECT_EQ(checked_mul(-3, 5), -15);
  EXPECT_EQ(round_up(33, 16), 48);
}

TEST(Half, E4m3RoundsToTheNearestWithTiesToEven) {
  for (int code = 0; code < 0x7f; ++code) {
    const float value = e4m3_to_float(static_cast<uint8_t>(code));
    EXPECT_EQ(float_to_e4m3(value), code);
    EXPECT_EQ(float_to_e4m3(-value), code | 0x80);
    if (code == 0x7e) break;
    const float next = e4m3_to_float(static_cast<uint8_t>(code + 1));
    const float middle = (value + next) / 2;
    EXPECT_EQ(float_to_e4m3(middle), code % 2 == 0 ? code : code + 1);
    EXPECT_EQ(float_to_e4m3(std::nextafter(middle, 0.0F)), code);
    EXPECT_EQ(float_to_e4m3(std::nextafter(middle, 1e9F)), code + 1);
  }
  EXPECT_EQ(float_to_e4m3(1e9F), 0x7e) << "448";
  EXPECT_EQ(float_to_e4m3(-std::numeric_limits<float>::infinity()), 0xfe);
  EXPECT_EQ(float_to_e4m3(std::nanf("")) & 0x7f, 0x7f);
}

TEST(DType, RowBytesNeedWholeBlocks) {
  EXPECT_EQ(row_bytes(DType::kQ4_1, 64), 40);
  EXPECT_EQ(row_bytes(DType::kQ4_1, 65), std::nullopt);
  EXPECT_EQ(row_bytes(DType::kQ6_K, 512), 420);
  EXPECT_EQ(row_bytes(DType::kF32, INT64_MAX), std::nullopt);
  EXPECT_EQ(dtype_name(DType::kBF16), "bf16");
}

TEST(Half, EveryF16RoundTrips) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const auto half = static_cast<uint16_t>(bits);
    const float value = f16_to_float(half);
    if (std::isnan(value)) {
      EXPECT_TRUE(std::isnan(f16_to_float(float_to_f16(value))));
    } else {
      EXPECT_EQ(float_to_f16(value), half) << bits;
    }
  }
}

TEST(Half, RoundsToNearestEven) {
  EXPECT_EQ(float_to_bf16(1.0F + 0x1p-8F), 0x3f80);            // tie: to even, down
  EXPECT_EQ(float_to_bf16(1.0F + 0x1p-7F + 0x1p-8F), 0x3f82);  // tie: to even, up
  EXPECT_EQ(float_to_f16(65519.9F), 0x7bff);
  EXPECT_EQ(float_to_f16(65520.0F), 0x7c00);
  EXPECT_EQ(float_to_f16(0x1p-25F), 0x0000);  // tie between 0 and the least subnormal
  EXPECT_EQ(float_to_f16(-0x1.8p-25F), 0x8001);
}

TEST(Half, NeverFartherThanTheNeighbours) {
  std::mt19937 rng(7);
  std::uniform_int_distribution<uint32_t> bits(0x00800000, 0x7f000000);
  for (int trial = 0; trial < 100000; ++trial) {
    const float value = std::bit_cast<float>(bits(rng));
    const float got = bf16_to_float(float_to_bf16(value));
    // Half a unit in the last place of an 8-bit significand.
    EXPECT_LE(std::abs(static_cast<double>(got) - value), std::ldexp(std::abs(value), -8)) << value;
    if (value < 65504.0F && value > 6.2e-5F) {
      const double half = f16_to_float(float_to_f16(value));
      EXPECT_LE(std::abs(half - value), std::ldexp(std::abs(value), -11)) << value;
    }
  }
}

}  // namespace
}  // namespace foveal

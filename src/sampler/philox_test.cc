#include "sampler/philox.h"

#include <gtest/gtest.h>

#include <set>

namespace foveal::sampler {
namespace {

using Words = std::array<uint32_t, 4>;

/// The known answers that the generator's authors publish with Random123 (kat_vectors, philox4x32,
/// 10 rounds).
TEST(Philox, PublishedVectors) {
  EXPECT_EQ(philox4x32({0, 0, 0, 0}, {0, 0}),
            (Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  constexpr uint32_t kOnes = 0xffffffff;
  EXPECT_EQ(philox4x32({kOnes, kOnes, kOnes, kOnes}, {kOnes, kOnes}),
            (Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Philox, DrawUsesTheDocumentedWords) {
  // 0x6627e8d5e169c58d, its upper 53 bits.
  EXPECT_EQ(uniform_draw(0, 0), static_cast<double>(0x6627e8d5e169c58dULL >> 11) * 0x1p-53);
  const auto words = philox4x32({5, 6, 0, 0}, {7, 8});
  const uint64_t bits = (uint64_t{words[0]} << 32 | words[1]) >> 11;
  EXPECT_EQ(uniform_draw((uint64_t{8} << 32) | 7, (uint64_t{6} << 32) | 5),
            static_cast<double>(bits) * 0x1p-53);
}

TEST(Philox, DrawsFillTheUnitIntervalEvenly) {
  constexpr int kBins = 64;
  constexpr int kDraws = 64000;
  std::array<int, kBins> count{};
  std::set<double> distinct;
  for (int idx = 0; idx < kDraws; ++idx) {
    // Seeds and indices both small and adjacent, as requests have them.
    const double u = uniform_draw(static_cast<uint64_t>(idx % 8), static_cast<uint64_t>(idx / 8));
    ASSERT_GE(u, 0);
    ASSERT_LT(u, 1);
    distinct.insert(u);
    ++count[static_cast<size_t>(u * kBins)];
  }
  EXPECT_EQ(distinct.size(), size_t{kDraws});  // a collision of 53 bits: chance 2e-7
  double chi_square = 0;
  for (const int got : count) {
    const double expected = double{kDraws} / kBins;
    chi_square += (got - expected) * (got - expected) / expected;
  }
  // 63 degrees of freedom: mean 63, deviation sqrt(126) = 11.2. Fixed inputs, so no chance is left.
  EXPECT_LT(chi_square, 63 + 4 * 11.2);
}

}  // namespace
}  // namespace foveal::sampler

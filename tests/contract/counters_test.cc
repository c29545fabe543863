#include <gtest/gtest.h>

#include <algorithm>

#include "world.h"

namespace foveal::contract {
namespace {

using attention::Phase;

class Counters : public testing::TestWithParam<NamedExample> {};
class Sparsity : public testing::TestWithParam<NamedExample> {};

/// Unmasked pairs of positions [first, last] over all heads.
uint64_t dense_pairs(const Shape& shape, int32_t first, int32_t last) {
  uint64_t pairs = 0;
  for (int32_t position = std::max(first, 0); position <= last; ++position) {
    const int32_t keys = position + 1;
    pairs += static_cast<uint64_t>(shape.window > 0 ? std::min(keys, shape.window) : keys);
  }
  return pairs * static_cast<uint64_t>(shape.num_heads);
}

TEST_P(Counters, AreConsistent) {
  const uint32_t seed = fresh_seed();
  for (const Shape& shape : shapes(GetParam())) {
    SCOPED_TRACE(describe(shape) + " seed " + std::to_string(seed));
    World world(shape, seed);
    const auto set = make_set(GetParam().example, world);
    const Result prefill = world.prefill(*set, {.chunk = 64});
    const Result decode = world.decode(*set, {});
    for (size_t seq = 0; seq < shape.lens.size(); ++seq) {
      const int32_t last = shape.lens[seq] - 1;
      EXPECT_EQ(prefill.counters[seq].pairs, dense_pairs(shape, 0, last)) << shape.lens[seq];
      EXPECT_EQ(decode.counters[seq].pairs,
                dense_pairs(shape, last - World::kDecodeTokens + 1, last))
          << shape.lens[seq];
      for (const auto& counter : {prefill.counters[seq], decode.counters[seq]}) {
        EXPECT_LE(counter.pairs_used, counter.pairs);
        EXPECT_GT(counter.pairs_used, 0U) << "a row sees at least its own key";
        EXPECT_LE(counter.tiles_skipped, counter.tiles);
        if (GetParam().example.equals_dense) {
          EXPECT_EQ(counter.pairs_used, counter.pairs);
          EXPECT_EQ(counter.tiles_skipped, 0U);
        }
      }
    }
  }
}

/// A method that says it is active must be seen to leave something out where there is something.
TEST_P(Sparsity, IsSeenWhereAMethodIsActive) {
  const uint32_t seed = fresh_seed();
  World world(plain_shape(GetParam(), {480}), seed);
  const auto set = make_set(GetParam().example, world);
  const Result prefill = world.prefill(*set, {});
  const Result decode = world.decode(*set, {});
  const auto check = [&](Phase phase, const kernels::AttentionCounters& counter) {
    SCOPED_TRACE(std::string(attention::phase_name(phase)) + " seed " + std::to_string(seed));
    if (set->method(phase).active(phase)) {
      EXPECT_LT(counter.pairs_used, counter.pairs);
    } else {
      EXPECT_EQ(counter.pairs_used, counter.pairs);
    }
  };
  check(Phase::kPrefill, prefill.counters[0]);
  check(Phase::kDecode, decode.counters[0]);
}

INSTANTIATE_TEST_SUITE_P(Methods, Counters, testing::ValuesIn(all_examples()),
                         [](const auto& param) { return test_name(param.param); });
INSTANTIATE_TEST_SUITE_P(Methods, Sparsity, testing::ValuesIn(examples_where(false)),
                         [](const auto& param) { return test_name(param.param); });

}  // namespace
}  // namespace foveal::contract

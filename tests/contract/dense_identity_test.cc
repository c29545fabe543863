#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "reference.h"
#include "world.h"

namespace foveal::contract {
namespace {

class DenseIdentity : public testing::TestWithParam<NamedExample> {};
class PrefixKey : public testing::TestWithParam<NamedExample> {};

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

/// With settings that leave nothing out, a method is dense attention bit for bit.
TEST_P(DenseIdentity, EqualsDenseWhenNothingIsLeftOut) {
  const uint32_t seed = fresh_seed();
  for (const Shape& shape : shapes(GetParam())) {
    SCOPED_TRACE(describe(shape) + " seed " + std::to_string(seed));
    World world(shape, seed);
    const auto set = make_set(GetParam().example, world);
    const auto dense = dense_set(world);
    EXPECT_TRUE(same_bits(world.prefill(*set, {}).out, world.prefill(*dense, {}).out));
    EXPECT_TRUE(same_bits(world.decode(*set, {}).out, world.decode(*dense, {}).out));
  }
}

/// No key in the prefix index's root means: what prefill writes is what dense prefill writes.
TEST_P(PrefixKey, EmptyMeansDensePrefill) {
  const uint32_t seed = fresh_seed();
  for (const int32_t len : {40, 64, 65, 300}) {
    World world(plain_shape(GetParam(), {len}), seed);
    const auto set = make_set(GetParam().example, world);
    if (!set->prefix_key(len).empty()) continue;
    EXPECT_TRUE(same_bits(world.prefill(*set, {}).out, world.prefill(*dense_set(world), {}).out))
        << "length " << len << " seed " << seed;
  }
}

void expect_near(const World& world, const Result& result, const Reference& reference) {
  const auto dim = static_cast<size_t>(world.shape().out_dim());
  size_t compared = 0;
  double worst = 0;
  for (size_t i = 0; i < result.out.size(); ++i) {
    if (std::isnan(result.out[i])) continue;  // not run; the step verified the others
    worst =
        std::max(worst, std::abs(result.out[i] - reference.out[i]) / reference.tolerance[i / dim]);
    ++compared;
  }
  EXPECT_GT(compared, 0U);
  EXPECT_LE(worst, 1.0) << "in units of the tolerance";
}

/// And dense attention is what its formula says.
TEST(Dense, AgreesWithTheReference) {
  const uint32_t seed = fresh_seed();
  for (const Shape& shape : shapes({.method = "dense", .example = {}})) {
    SCOPED_TRACE(describe(shape) + " seed " + std::to_string(seed));
    World world(shape, seed);
    const auto set = dense_set(world);
    const Reference reference = dense_reference(world);
    expect_near(world, world.prefill(*set, {}), reference);
    expect_near(world, world.decode(*set, {}), reference);
  }
}

INSTANTIATE_TEST_SUITE_P(Methods, DenseIdentity, testing::ValuesIn(examples_where(true)),
                         [](const auto& param) { return test_name(param.param); });
INSTANTIATE_TEST_SUITE_P(Methods, PrefixKey, testing::ValuesIn(all_examples()),
                         [](const auto& param) { return test_name(param.param); });

}  // namespace
}  // namespace foveal::contract

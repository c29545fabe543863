#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "world.h"

namespace foveal::contract {
namespace {

using attention::AttentionSet;

class Invariance : public testing::TestWithParam<NamedExample> {};

void expect_same(const Result& got, const Result& expected) {
  ASSERT_EQ(got.out.size(), expected.out.size());
  size_t different = 0;
  for (size_t i = 0; i < got.out.size(); ++i) {
    different += std::memcmp(&got.out[i], &expected.out[i], sizeof(float)) != 0 ? 1 : 0;
  }
  EXPECT_EQ(different, 0U) << "of " << got.out.size() << " values";
  for (size_t seq = 0; seq < got.counters.size(); ++seq) {
    EXPECT_EQ(got.counters[seq].pairs, expected.counters[seq].pairs);
    EXPECT_EQ(got.counters[seq].pairs_used, expected.counters[seq].pairs_used);
  }
}

std::vector<Shape> mixed_shapes(const NamedExample& example) {
  return served(
      example,
      {{.lens = {1, 17, 300, 545}},
       {.num_heads = 3, .num_kv_heads = 1, .head_dim = 80, .page_size = 32, .lens = {513, 64}},
       {.page_size = 64, .dtype = DType::kF32, .window = 40, .lens = {300, 39}},
       {.num_kv_heads = 1, .head_dim = 80, .value_dim = 64, .lens = {1, 17, 300, 545}},
       {.num_heads = 3,
        .num_kv_heads = 1,
        .head_dim = 54,
        .page_size = 64,
        .dtype = DType::kF32,
        .value_dim = 38,
        .lens = {300, 39}}});
}

TEST_P(Invariance, ThreadsAndRepetitionChangeNothing) {
  const uint32_t seed = fresh_seed();
  for (const Shape& shape : mixed_shapes(GetParam())) {
    SCOPED_TRACE(describe(shape) + " seed " + std::to_string(seed));
    World world(shape, seed);
    const auto set = make_set(GetParam().example, world);
    const Result prefill = world.prefill(*set, {.threads = 1});
    const Result decode = world.decode(*set, {.threads = 1});
    for (const int threads : {1, 2, 5}) {
      expect_same(world.prefill(*set, {.threads = threads}), prefill);
      expect_same(world.decode(*set, {.threads = threads}), decode);
    }
  }
}

TEST_P(Invariance, ChunksChangeNothing) {
  const uint32_t seed = fresh_seed();
  for (const Shape& shape : mixed_shapes(GetParam())) {
    SCOPED_TRACE(describe(shape) + " seed " + std::to_string(seed));
    World world(shape, seed);
    const auto set = make_set(GetParam().example, world);
    const Result whole = world.prefill(*set, {});
    const Result after = world.decode(*set, {});
    for (const int32_t chunk : {1, 33, 128}) {
      SCOPED_TRACE("chunk " + std::to_string(chunk));
      expect_same(world.prefill(*set, {.chunk = chunk}), whole);
      expect_same(world.decode(*set, {.chunk = chunk}), after);
    }
  }
}

TEST_P(Invariance, NeighboursInTheBatchChangeNothing) {
  const uint32_t seed = fresh_seed();
  World one(plain_shape(GetParam(), {300}), seed);
  World batch(plain_shape(GetParam(), {300, 1, 64, 513}), seed);
  const auto set = make_set(GetParam().example, one);
  for (const bool prefill : {true, false}) {
    const Result single = prefill ? one.prefill(*set, {}) : one.decode(*set, {});
    const Result crowded = prefill ? batch.prefill(*set, {}) : batch.decode(*set, {});
    const std::vector<float> first(crowded.out.begin(),
                                   crowded.out.begin() + static_cast<int64_t>(single.out.size()));
    expect_same({first, {crowded.counters[0]}}, single);
  }
}

INSTANTIATE_TEST_SUITE_P(Methods, Invariance, testing::ValuesIn(all_examples()),
                         [](const auto& param) { return test_name(param.param); });

}  // namespace
}  // namespace foveal::contract

#include "attention/dense/dense.h"

#include <gtest/gtest.h>

namespace foveal::attention {
namespace {

// What dense computes is the business of the paged kernels' tests and of the contract suite.
TEST(Dense, ChangesNothingAndSaysWhy) {
  const auto dense = make_dense(nullptr, {});
  EXPECT_EQ(dense->name(), "dense");
  EXPECT_TRUE(dense->prefix_key(100, {}).empty());
  EXPECT_TRUE(dense->lanes({}).empty());
  EXPECT_EQ(dense->capabilities().prefill_chunk_multiple, 1);
  for (const Phase phase : kPhases) {
    EXPECT_FALSE(dense->active(phase));
    EXPECT_EQ(dense->resolve(0, phase).method, "dense");
    EXPECT_FALSE(dense->resolve(0, phase).why.empty());
  }
}

}  // namespace
}  // namespace foveal::attention

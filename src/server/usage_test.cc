#include "server/usage.h"

#include <gtest/gtest.h>

namespace foveal::server {
namespace {

double share_read(const PhaseSparsity& decode) {
  Usage usage;
  usage.sparsity.layers = {{.prefill = {}, .decode = decode}};
  return usage_json(usage).at("sparsity").at("decode_share_read").as_double();
}

TEST(Usage, ShareReadIsThatOfWhatTheMethodDecidesAbout) {
  EXPECT_EQ(share_read({}), 1);
  EXPECT_EQ(share_read({.pairs = 80, .pairs_used = 80}), 1) << "dense";
  EXPECT_EQ(share_read({.pairs = 80, .pairs_used = 20, .blocks = 8, .blocks_read = 4}), 0.5)
      << "pages";
  EXPECT_EQ(share_read({.pairs = 80, .pairs_used = 20}), 0.25) << "single keys, as DSA's";
}

}  // namespace
}  // namespace foveal::server

#include "attention/dsa/settings.h"

#include <gtest/gtest.h>

#include <functional>

#include "foveal/error.h"

namespace foveal::attention::dsa {
namespace {

MethodContext context(bool exact = false) {
  return {.shape = {.num_layers = 4,
                    .num_heads = 2,
                    .num_kv_heads = 1,
                    .head_dim = 576,
                    .value_dim = 512,
                    .windows = std::vector<int32_t>(4),
                    .indexer = IndexerShape{.num_heads = 8,
                                            .head_dim = 128,
                                            .topk = 64,
                                            .rope_interleave = false,
                                            .full = {1, 0, 1, 0}}},
          .checkpoint_sparse_json = {},
          .device = {},
          .exact = exact};
}

TEST(DsaSettings, TakesTheCheckpointsValues) {
  const Settings own = make_settings(nullptr, context());
  EXPECT_EQ(own.topk, 64);
  EXPECT_EQ(own.num_heads, 8);
  EXPECT_EQ(own.head_dim, 128);
  EXPECT_EQ(own.max_chunk, 32768);
  EXPECT_EQ(own.owner, (std::vector<int32_t>{0, 0, 2, 2}));
  EXPECT_FALSE(own.reference);
  EXPECT_FALSE(own.configured);
  EXPECT_TRUE(make_settings(nullptr, context(/*exact=*/true)).reference);
}

TEST(DsaSettings, TakesTheUsersValues) {
  DeepSeekSparseAttentionConfig config{.index_n_heads = 8, .index_topk = 4096};
  config.indexer_max_chunk_size = 100;
  config.indexer_reference = false;
  const Settings settings = make_settings(&config, context(/*exact=*/true));
  EXPECT_EQ(settings.topk, 4096) << "higher than the checkpoint's";
  EXPECT_EQ(settings.max_chunk, 100);
  EXPECT_FALSE(settings.reference) << "the field wins over compute_dtype f32";
  EXPECT_TRUE(settings.configured);
}

TEST(DsaSettings, RefusesWhatContradictsTheWeights) {
  struct Wrong {
    std::function<void(DeepSeekSparseAttentionConfig&, MethodContext&)> change;
    std::string_view text;
  };
  const Wrong wrongs[] = {
      {[](auto& config, auto&) { config.index_n_heads = 16; },
       "[dsa.index_n_heads] got 16; need 8, which the checkpoint's weights have"},
      {[](auto& config, auto&) { config.index_head_dim = 64; }, "[dsa.index_head_dim] got 64"},
      {[](auto& config, auto&) { config.indexer_rope_interleave = true; },
       "[dsa.indexer_rope_interleave] got true; need false"},
      {[](auto&, auto& own) { own.shape.indexer.reset(); }, "lightning indexer"},
      {[](auto&, auto& own) { own.shape.value_dim = 0; }, "without a latent cache"},
      {[](auto&, auto& own) { own.shape.indexer->topk = 0; }, "[dsa.index_topk] got 0"},
      {[](auto&, auto& own) { own.shape.indexer->full = {0, 1, 1, 1}; }, "one in the first"},
      {[](auto&, auto& own) { own.shape.indexer->full.pop_back(); }, "3 of 4 layers"},
      {[](auto&, auto& own) { own.shape.indexer->head_dim = 96; }, "a power of two"},
  };
  for (const Wrong& wrong : wrongs) {
    DeepSeekSparseAttentionConfig config;
    MethodContext own = context();
    wrong.change(config, own);
    try {
      make_settings(&config, own);
      ADD_FAILURE() << "must refuse: " << wrong.text;
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find(wrong.text), std::string::npos) << error.what();
    }
  }
  MethodContext odd = context(/*exact=*/true);
  odd.shape.indexer->head_dim = 96;
  EXPECT_NO_THROW(make_settings(nullptr, odd)) << "no Hadamard transform in reference mode";
}

}  // namespace
}  // namespace foveal::attention::dsa

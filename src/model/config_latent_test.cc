// DeepSeek-V3, V3.2 and GLM-5: what their config.json may say, and what is refused.
#include <cmath>

#include "model/config_json.h"
#include "model/test_files.h"

namespace foveal::model {
namespace {

/// A small config of a family with further fields (",\"x\":1"); a field given twice counts last.
ModelConfig parse(const std::string& type, const std::string& fields = "") {
  const std::string text =
      R"({"hidden_size":128,"intermediate_size":256,"num_hidden_layers":4,"vocab_size":100,)"
      R"("num_attention_heads":4,"num_key_value_heads":4,"max_position_embeddings":1024,)"
      R"("q_lora_rank":96,"kv_lora_rank":512,"qk_nope_head_dim":128,"qk_rope_head_dim":64,)"
      R"("v_head_dim":32,"moe_intermediate_size":48,"n_routed_experts":8,"n_shared_experts":2,)"
      R"("num_experts_per_tok":3,"n_group":4,"topk_group":2,"head_dim":64,"model_type":")" +
      type + "\"" + fields + "}";
  return parse_config_json(text, "config.json");
}

void expect_refused(std::string_view part, const std::string& type, const std::string& fields,
                    ErrorKind kind = ErrorKind::kCorruptFile) {
  expect_error(kind, part, [&] { parse(type, fields); });
}

constexpr char kYarn[] = R"(,"rope_theta":10000,"rope_scaling":{"type":"yarn","factor":40,)"
                         R"("original_max_position_embeddings":4096,"beta_fast":32,"beta_slow":1,)"
                         R"("mscale":1.0,"mscale_all_dim":1.0})";

TEST(ConfigLatent, DeepSeekV3) {
  const ModelConfig config = parse("deepseek_v3", kYarn);
  ASSERT_TRUE(config.latent);
  EXPECT_FALSE(config.indexer);
  EXPECT_EQ(config.latent->q_rank, 96);
  EXPECT_EQ(config.latent->kv_rank, 512);
  EXPECT_EQ(config.latent->nope_dim, 128);
  EXPECT_EQ(config.latent->rope_dim, 64);
  EXPECT_EQ(config.latent->value_dim, 32);
  EXPECT_EQ(config.latent->width(), 576);
  EXPECT_EQ(config.head_dim, 192);  // the file's own head_dim counts nothing
  EXPECT_EQ(config.rotary_dim, 64);
  EXPECT_EQ(config.rope_style, kernels::RopeStyle::kInterleaved);
  EXPECT_NEAR(config.attention_scale, 0.1352338, 1e-7);  // 192^-1/2 (0.1 ln 40 + 1)^2
  EXPECT_EQ(config.num_experts, 8);
  EXPECT_EQ(config.shared_intermediate_size, 96);
  EXPECT_TRUE(config.norm_topk_prob);
  EXPECT_TRUE(config.router.sigmoid);
  EXPECT_EQ(config.router.num_groups, 4);
  EXPECT_EQ(config.router.topk_groups, 2);
  EXPECT_EQ(config.router.scale, 2.5);
  EXPECT_EQ(config.moe_layers, (std::vector<uint8_t>{0, 0, 0, 1}));
}

TEST(ConfigLatent, SoftmaxScaleTakesMscaleAllDimAlone) {
  const double plain = 1.0 / std::sqrt(192.0);
  EXPECT_EQ(parse("deepseek_v3").attention_scale, plain);
  const std::string yarn = R"(,"rope_scaling":{"type":"yarn","factor":8,)";
  EXPECT_EQ(parse("deepseek_v3", yarn + R"("mscale":1.0})").attention_scale, plain);
  const double mscale = 0.1 * 0.6 * std::log(8.0) + 1;
  EXPECT_EQ(parse("deepseek_v3", yarn + R"("mscale":1.0,"mscale_all_dim":0.6})").attention_scale,
            plain * (mscale * mscale));
  // Whatever the type of scaling, as DeepSeek's code and transformers have it.
  const std::string rest = R"("factor":8,"mscale_all_dim":0.6})";
  for (const std::string type : {"linear", "dynamic"}) {
    EXPECT_EQ(
        parse("deepseek_v3", R"(,"rope_scaling":{"type":")" + type + "\"," + rest).attention_scale,
        plain * (mscale * mscale))
        << type;
  }
  EXPECT_EQ(parse("deepseek_v3", R"(,"rope_scaling":{"type":"default",)" + rest).attention_scale,
            plain);
}

TEST(ConfigLatent, QueriesMayBeProjectedInOneStep) {
  EXPECT_EQ(parse("deepseek_v3", R"(,"q_lora_rank":null)").latent->q_rank, 0);
  expect_refused("no q_lora_rank; need the latent", "deepseek_v32", R"(,"q_lora_rank":null)",
                 ErrorKind::kUnsupported);
  expect_error(ErrorKind::kCorruptFile, "got no q_lora_rank", [] {
    parse_config_json(R"({"model_type":"deepseek_v3","hidden_size":8,"intermediate_size":8,)"
                      R"("num_hidden_layers":1,"num_attention_heads":1,"vocab_size":8})",
                      "config.json");
  });
}

TEST(ConfigLatent, LayersOfExperts) {
  using Flags = std::vector<uint8_t>;
  EXPECT_EQ(parse("deepseek_v3", R"(,"first_k_dense_replace":1)").moe_layers, (Flags{0, 1, 1, 1}));
  EXPECT_EQ(parse("deepseek_v3", R"(,"first_k_dense_replace":1,"moe_layer_freq":2)").moe_layers,
            (Flags{0, 0, 1, 0}));
  EXPECT_EQ(
      parse("glm_moe_dsa", R"(,"mlp_layer_types":["sparse","dense","sparse","dense"])").moe_layers,
      (Flags{1, 0, 1, 0}));
  expect_refused("got 1 mlp_layer_types; need 4", "glm_moe_dsa", R"(,"mlp_layer_types":["dense"])");
  EXPECT_EQ(parse("deepseek_v3", R"(,"n_routed_experts":null)").num_experts, 0);
  for (const char* none : {"0", "null"}) {
    const std::string field = std::string(R"(,"n_shared_experts":)") + none;
    EXPECT_EQ(parse("deepseek_v3", field).shared_intermediate_size, 0) << none;
  }
}

TEST(ConfigLatent, DeepSeekV32) {
  const ModelConfig config =
      parse("deepseek_v32", R"(,"index_topk":64,"index_n_heads":8,"index_head_dim":128)");
  ASSERT_TRUE(config.indexer);
  EXPECT_EQ(config.indexer->num_heads, 8);
  EXPECT_EQ(config.indexer->head_dim, 128);
  EXPECT_EQ(config.indexer->topk, 64);
  EXPECT_FALSE(config.indexer->rope_interleave);
  EXPECT_EQ(config.indexer->full, (std::vector<uint8_t>{1, 1, 1, 1}));
  EXPECT_EQ(parse("deepseek_v32").indexer->num_heads, 64);
  EXPECT_EQ(parse("deepseek_v32").indexer->topk, 2048);
  EXPECT_TRUE(parse("deepseek_v32", R"(,"indexer_rope_interleave":true)").indexer->rope_interleave);
}

TEST(ConfigLatent, Glm) {
  const ModelConfig config =
      parse("glm_moe_dsa", R"(,"rope_parameters":{"rope_theta":8000000,"rope_type":"default"},)"
                           R"("indexer_types":["full","shared","shared","full"])");
  EXPECT_EQ(config.rope.theta, 8e6);
  EXPECT_EQ(config.norm_eps, 1e-5);
  EXPECT_EQ(config.attention_scale, 1.0 / std::sqrt(192.0));
  EXPECT_TRUE(config.indexer->rope_interleave);
  EXPECT_EQ(config.indexer->num_heads, 32);
  EXPECT_EQ(config.indexer->full, (std::vector<uint8_t>{1, 0, 0, 1}));
}

TEST(ConfigLatent, SharedIndexersByPatternOrRule) {
  using Flags = std::vector<uint8_t>;
  const auto full = [](const std::string& fields) {
    return parse("glm_moe_dsa", fields).indexer->full;
  };
  EXPECT_EQ(full(R"(,"index_topk_pattern":"FSFS")"), (Flags{1, 0, 1, 0}));
  EXPECT_EQ(full(R"(,"index_topk_freq":2)"), (Flags{1, 1, 0, 1}));
  EXPECT_EQ(full(R"(,"index_topk_freq":2,"index_skip_topk_offset":3)"), (Flags{1, 1, 1, 0}));
  // The list is what counts where a rule is there as well.
  EXPECT_EQ(full(R"(,"index_topk_freq":2,"indexer_types":["full","full","full","full"])"),
            (Flags{1, 1, 1, 1}));
  EXPECT_EQ(full(R"(,"num_nextn_predict_layers":1,)"
                 R"("indexer_types":["full","shared","full","shared","full"])"),
            (Flags{1, 0, 1, 0}));
}

TEST(ConfigLatent, LayerTypesMayBeSaidInEitherSpelling) {
  for (const std::string word : {"deepseek_sparse_attention", "indexed_attention"}) {
    const std::string one = '"' + word + '"';
    const std::string four = ",\"layer_types\":[" + one + ',' + one + ',' + one + ',' + one + ']';
    EXPECT_TRUE(parse("glm_moe_dsa", four).indexer.has_value());
    expect_refused("need full_attention alone", "deepseek_v3", four, ErrorKind::kUnsupported);
  }
}

TEST(ConfigLatent, RefusesIndexersThatCannotBe) {
  const std::string v32 = "deepseek_v32";
  expect_refused("got index_topk 0; need", v32, R"(,"index_topk":0)");
  expect_refused("got index_topk 9000000000; need", v32, R"(,"index_topk":9000000000)");
  expect_refused("got index_n_heads 0", v32, R"(,"index_n_heads":0)");
  expect_refused("got index_head_dim 32; need at least qk_rope_head_dim 64", v32,
                 R"(,"index_head_dim":32)");
  expect_refused("got 2 indexer_types; need 4", v32, R"(,"indexer_types":["full","full"])");
  expect_refused("got 'half' in indexer_types", v32,
                 R"(,"indexer_types":["full","half","full","full"])", ErrorKind::kUnsupported);
  expect_refused("shared at layer 0", v32, R"(,"index_topk_pattern":"SFFF")");
  expect_refused("got index_topk_pattern 'FX'", v32, R"(,"index_topk_pattern":"FX")");
  expect_refused("got indexer_types and an index_topk_pattern that says otherwise", v32,
                 R"(,"index_topk_pattern":"FSFF","indexer_types":["full","full","full","full"])");
  expect_refused("got index_kpool", v32, R"(,"index_kpool":4)", ErrorKind::kUnsupported);
  expect_refused("got index_topk in a deepseek_v3", "deepseek_v3", R"(,"index_topk":64)",
                 ErrorKind::kUnsupported);
  expect_refused("need deepseek_sparse_attention alone", v32,
                 R"(,"layer_types":["full_attention","full_attention",)"
                 R"("deepseek_sparse_attention","full_attention"])",
                 ErrorKind::kUnsupported);
}

TEST(ConfigLatent, RefusesRoutersThatCannotBe) {
  const std::string v3 = "deepseek_v3";
  expect_refused("got n_group 3; need one that divides", v3, R"(,"n_group":3)");
  expect_refused("got topk_group 5; need at most n_group 4", v3, R"(,"topk_group":5)");
  expect_refused("got n_group 8 of 1 experts", v3, R"(,"n_group":8)");
  expect_refused("got num_experts_per_tok 5; need at most the 4", v3,
                 R"(,"num_experts_per_tok":5)");
  expect_refused("got scoring_func 'softmax'", v3, R"(,"scoring_func":"softmax")",
                 ErrorKind::kUnsupported);
  expect_refused("topk_method 'greedy'", v3, R"(,"topk_method":"greedy")", ErrorKind::kUnsupported);
}

TEST(ConfigLatent, RefusesDimensionsThatCannotBe) {
  expect_refused("got kv_lora_rank 0", "deepseek_v3", R"(,"kv_lora_rank":0)");
  expect_refused("got qk_rope_head_dim 0", "glm_moe_dsa", R"(,"qk_rope_head_dim":0)");
  expect_refused("got qk_rope_head_dim 63", "deepseek_v3", R"(,"qk_rope_head_dim":63)",
                 ErrorKind::kUnsupported);
  expect_refused("got kv_lora_rank 1000000", "deepseek_v3", R"(,"kv_lora_rank":1000000)");
  expect_refused("got num_nextn_predict_layers -1", "deepseek_v3",
                 R"(,"num_nextn_predict_layers":-1)");
}

}  // namespace
}  // namespace foveal::model

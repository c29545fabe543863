#include "engine/setup.h"

#include <gtest/gtest.h>

#include "engine/inspect.h"
#include "engine/load.h"
#include "foveal/error.h"
#include "foveal/llm.h"
#include "model/test_files.h"

namespace foveal::engine {
namespace {

LlmConfig dummy_config() {
  LlmConfig config;
  config.model = FOVEAL_SOURCE_DIR "/tests/golden/llama3";
  config.load_format = "dummy";
  config.device = "cpu";
  config.threads = 1;
  config.kv_cache_config.max_tokens = 1024;
  return config;
}

Setup setup_of(const LlmConfig& config) { return make_setup(config, *open_checkpoint(config)); }

std::string error_of(const LlmConfig& config) {
  try {
    setup_of(config);
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

TEST(Setup, CpuDefaults) {
  const auto setup = setup_of(dummy_config());
  EXPECT_EQ(setup.scheduler.prefill_chunk, 512);
  EXPECT_EQ(setup.scheduler.max_step_tokens, 2048);
  EXPECT_EQ(setup.workspace_bytes, 0);
  EXPECT_TRUE(setup.graph_sizes.empty());
}

TEST(Setup, OfASizeAndAShareOfMemoryTheSmallerCounts) {
  LlmConfig config = dummy_config();
  config.kv_cache_config.free_memory_fraction = 0.5;
  EXPECT_EQ(setup_of(config).capacity.num_tokens, 1024);
  config.kv_cache_config.free_memory_fraction.reset();
  config.kv_cache_config.max_tokens = INT32_MAX;
  EXPECT_NE(error_of(config).find("got max_tokens 2147483647"), std::string::npos);
  config.kv_cache_config.free_memory_fraction = 1e-3;
  const int64_t small = setup_of(config).capacity.num_bytes;
  config.kv_cache_config.free_memory_fraction = 0.5;
  const int64_t large = setup_of(config).capacity.num_bytes;
  EXPECT_GT(small, 0);
  EXPECT_GT(large, 50 * small);
}

TEST(Setup, RefusesWhatTheDeviceHasNot) {
  LlmConfig config = dummy_config();
  config.kv_cache_config.dtype = "fp8";
  EXPECT_EQ(error_of(config),
            "[kv_cache_config.dtype] got fp8 on cpu; need auto, bf16, f16 or f32");
  config = dummy_config();
  config.use_fp8_context_fmha = true;
  EXPECT_EQ(error_of(config),
            "[use_fp8_context_fmha] got true on cpu; need false, or cuda with "
            "kv_cache_config.dtype fp8");
  config = dummy_config();
  config.load_format = "auto";
  config.num_layers = 1;
  EXPECT_EQ(error_of(config),
            "[num_layers] got 1 with load_format auto; need dummy weights for it");
}

TEST(Setup, DummyWeightsRunAndCutLayers) {
  LlmConfig config = dummy_config();
  config.num_layers = 1;
  EXPECT_EQ(setup_of(config).shape.num_layers, 1);
  LLM llm(config);
  const RequestOutput out = llm.generate({.token_ids = std::vector<int32_t>{1, 2, 3}},
                                         {.max_tokens = 4, .ignore_eos = true});
  EXPECT_EQ(out.outputs.at(0).token_ids.size(), 4U);
  LLM again(config);
  EXPECT_EQ(again
                .generate({.token_ids = std::vector<int32_t>{1, 2, 3}},
                          {.max_tokens = 4, .ignore_eos = true})
                .outputs.at(0)
                .token_ids,
            out.outputs.at(0).token_ids);
}

TEST(Setup, ToLookAtAModelMakesNoWeights) {
  LlmConfig config = dummy_config();
  config.model = FOVEAL_SOURCE_DIR "/bench/configs/Qwen2.5-0.5B";
  const auto checkpoint = open_checkpoint(config, Weights::kShapes);
  EXPECT_EQ(checkpoint->bytes_to_come(), checkpoint->total_bytes());
  EXPECT_EQ(make_setup(config, *checkpoint).weights_bytes, checkpoint->total_bytes());
}

TEST(Setup, SaysThatAModelDoesNotFit) {
  const model::TempFolder folder;
  LlmConfig config = dummy_config();
  config.model = folder.write("config.json", R"({"model_type": "llama", "hidden_size": 1048576,
      "intermediate_size": 4194304, "num_hidden_layers": 4096, "num_attention_heads": 8192,
      "vocab_size": 1024, "max_position_embeddings": 4096})");
  try {
    make_setup(config, *open_checkpoint(config, Weights::kShapes));
    ADD_FAILURE() << "must throw";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kOutOfMemory);
    EXPECT_NE(std::string(error.what()).find("[memory] got weights of"), std::string::npos)
        << error.what();
  }
}

// So that one can see beforehand what a larger machine would have to hold.
TEST(Setup, PlansWhatDoesNotFit) {
  const model::TempFolder folder;
  LlmConfig config = dummy_config();
  config.kv_cache_config.max_tokens.reset();
  config.model = folder.write("config.json", R"({"model_type": "llama", "hidden_size": 1048576,
      "intermediate_size": 4194304, "num_hidden_layers": 4096, "num_attention_heads": 8192,
      "num_key_value_heads": 8, "vocab_size": 1024, "max_position_embeddings": 4096})");
  const Inspection shown = inspect(config);
  ASSERT_TRUE(shown.shortage.has_value());
  EXPECT_EQ(shown.engine.kv_tokens, 0);
  EXPECT_EQ(shown.engine.max_seq_len, 4096) << "nothing is known to bound it";
  EXPECT_EQ(shown.engine.kv_bytes_per_token, int64_t{2} * 8 * 128 * 2 * 4096);
  EXPECT_EQ(shown.shortage->cache_bytes, 4096 * shown.engine.kv_bytes_per_token);
  EXPECT_EQ(
      shown.shortage->needed_bytes,
      shown.engine.weights_bytes + shown.engine.workspace_bytes + shown.shortage->cache_bytes);
  EXPECT_GT(shown.shortage->needed_bytes, shown.shortage->free_bytes);
  config.kv_cache_config.max_tokens = 100;
  EXPECT_EQ(inspect(config).shortage->cache_tokens, 100);
  // The weights fit, the cache does not.
  config.num_layers = 1;
  config.model = dummy_config().model;
  config.kv_cache_config.max_tokens = INT32_MAX;
  EXPECT_TRUE(inspect(config).shortage.has_value());
  config.kv_cache_config.max_tokens = 1024;
  EXPECT_FALSE(inspect(config).shortage.has_value());
}

TEST(Setup, CountersCanBeOff) {
  LlmConfig config = dummy_config();
  config.sparsity_counters = false;
  LLM llm(config);
  const RequestOutput out = llm.generate({.token_ids = std::vector<int32_t>{1, 2, 3}},
                                         {.max_tokens = 2, .ignore_eos = true});
  EXPECT_TRUE(out.sparsity.layers.empty());
}

}  // namespace
}  // namespace foveal::engine

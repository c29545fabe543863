#include "model/dummy_checkpoint.h"

#include <gtest/gtest.h>

#include "base/error_testing.h"
#include "model/test_files.h"

namespace foveal::model {
namespace {

const std::string kGolden = FOVEAL_SOURCE_DIR "/tests/golden/";
const std::string kConfigs = FOVEAL_SOURCE_DIR "/bench/configs/";

TEST(DummyCheckpoint, HasTheTensorsOfTheRealOne) {
  for (const char* family : {"llama3", "gemma3", "mistral_sliding", "phi3"}) {
    const auto real = Checkpoint::open(kGolden + family);
    const auto dummy = open_dummy_checkpoint(kGolden + family, {}, DummyData::kHost);
    EXPECT_EQ(dummy->names(), real->names()) << family;
    for (const std::string& name : real->names()) {
      EXPECT_EQ(dummy->find(name)->shape, real->find(name)->shape) << family << " " << name;
      EXPECT_NE(dummy->find(name)->data, nullptr);
    }
  }
}

TEST(DummyCheckpoint, StacksExperts) {
  const auto dummy = open_dummy_checkpoint(kGolden + "qwen3_moe", {}, DummyData::kHost);
  const ModelConfig& config = dummy->config();
  const WeightView last =
      dummy->expert_matrix("model.layers.0.mlp.experts.{}.up_proj.weight", config.num_experts - 1,
                           config.moe_intermediate_size, config.hidden_size);
  EXPECT_NE(last.data, nullptr);
}

TEST(DummyCheckpoint, CutsLayersAndLeavesDataToTheDevice) {
  const auto dummy =
      open_dummy_checkpoint(kConfigs + "Llama-3.1-8B/config.json", 2, DummyData::kDevice);
  EXPECT_EQ(dummy->config().num_layers, 2);
  EXPECT_EQ(dummy->config().windows.size(), 2U);
  EXPECT_EQ(dummy->find("model.layers.1.mlp.up_proj.weight")->data, nullptr);
  EXPECT_EQ(dummy->vector("model.norm.weight", 4096).front(), 1.0F);
  EXPECT_EQ(dummy->find("model.layers.2.input_layernorm.weight"), nullptr);
  EXPECT_THROW(open_dummy_checkpoint(kConfigs + "Llama-3.1-8B", 33, DummyData::kDevice), Error);
}

std::string error_of(const std::string& path, DummyData data) {
  return test::error_text([&] { open_dummy_checkpoint(path, {}, data); });
}

TEST(DummyCheckpoint, RefusesWhatIsNoConfig) {
  TempFolder folder;
  const std::string gguf = folder.write("model.gguf", "GGUF\x03");
  EXPECT_EQ(error_of(gguf, DummyData::kNone),
            "[" + gguf +
                "] got a GGUF file of 5 bytes; need a config.json or its folder for dummy weights");
  for (const std::string& path :
       {folder.path(), std::string("/dev/zero"), std::string(5000, 'a')}) {
    EXPECT_NE(error_of(path, DummyData::kNone).find("got nothing to read"), std::string::npos);
  }
  const std::string large = folder.write("large.json", std::string(size_t{5} << 20, ' '));
  EXPECT_NE(error_of(large, DummyData::kNone).find("got a file of"), std::string::npos);
}

// The system gives memory on first use and kills who takes more than there is.
TEST(DummyCheckpoint, RefusesWeightsBeyondMemory) {
  TempFolder folder;
  const std::string path = folder.write("config.json", R"({"model_type": "llama",
      "hidden_size": 1048576, "intermediate_size": 4194304, "num_hidden_layers": 4096,
      "num_attention_heads": 8192, "vocab_size": 16777216, "max_position_embeddings": 4096})");
  EXPECT_NE(error_of(path, DummyData::kHost).find("got dummy weights of"), std::string::npos);
  EXPECT_EQ(error_of(path, DummyData::kNone), "no error");
  const std::string wide = folder.write("wide.json", R"({"model_type": "qwen3_moe",
      "hidden_size": 1048576, "intermediate_size": 4194304, "moe_intermediate_size": 4194304,
      "num_experts": 16384, "num_experts_per_tok": 8, "num_hidden_layers": 4096,
      "num_attention_heads": 8192, "vocab_size": 16777216, "max_position_embeddings": 4096})");
  EXPECT_NE(error_of(wide, DummyData::kNone).find("got weights of 2^63 bytes"), std::string::npos);
}

TEST(DummyCheckpoint, CountsWhatIsInMemory) {
  const auto host = open_dummy_checkpoint(kGolden + "llama3", {}, DummyData::kHost);
  EXPECT_EQ(host->bytes_to_come(), 0);
  const auto none = open_dummy_checkpoint(kGolden + "llama3", {}, DummyData::kNone);
  EXPECT_EQ(none->bytes_to_come(), host->total_bytes());
}

TEST(DummyCheckpoint, KnowsTheBenchmarksShapes) {
  for (const char* name : {"Llama-3.1-8B", "Qwen3-30B-A3B", "Qwen2.5-0.5B", "DeepSeek-V3.2"}) {
    EXPECT_NO_THROW(open_dummy_checkpoint(kConfigs + name, {}, DummyData::kDevice)) << name;
  }
}

TEST(DummyCheckpoint, HoldsE4m3WhereItsConfigSaysSo) {
  const auto fp8 = open_dummy_checkpoint(kConfigs + "DeepSeek-V3.2-FP8", 4, DummyData::kDevice);
  const std::string layer = "model.layers.3.";
  const std::string down = layer + "mlp.experts.{}.down_proj.weight";
  EXPECT_EQ(fp8->find(down)->dtype, DType::kF8E4M3);
  EXPECT_EQ(fp8->fp8_matrix(down)->weight.rows, 7168);
  EXPECT_EQ(fp8->fp8_matrix(down)->scales.per_row, 2048 / 128);
  EXPECT_EQ(fp8->expert_matrix(down, 5, 7168, 2048).dtype, DType::kBF16);  // for who expands it
  for (const char* name : {"mlp.gate.weight", "self_attn.indexer.weights_proj.weight"}) {
    EXPECT_EQ(fp8->find(layer + name)->dtype, DType::kBF16) << name;
    EXPECT_FALSE(fp8->fp8_matrix(layer + name).has_value()) << name;
  }
  const auto wide =
      open_dummy_checkpoint(kConfigs + "DeepSeek-V3.2-FP8", 4, DummyData::kNone, /*fp8=*/false);
  EXPECT_FALSE(wide->config().fp8_weights);
  EXPECT_EQ(wide->find(down)->dtype, DType::kBF16);
}

TEST(DummyCheckpoint, HasTheTensorsOfAnIndexer) {
  const auto opened = open_dummy_checkpoint(kConfigs + "DeepSeek-V3.2", 4, DummyData::kNone);
  const std::string attention = "model.layers.3.self_attn.";
  EXPECT_EQ(opened->matrix(attention + "kv_a_proj_with_mqa.weight", 576, 7168).rows, 576);
  EXPECT_EQ(opened->matrix(attention + "kv_b_proj.weight", 128 * 256, 512).cols, 512);
  EXPECT_EQ(opened->matrix(attention + "indexer.wq_b.weight", 64 * 128, 1536).cols, 1536);
  EXPECT_EQ(opened->config().indexer->full.size(), 4U);
  EXPECT_NE(opened->find("model.layers.3.mlp.gate.e_score_correction_bias"), nullptr);
  EXPECT_NE(opened->find("model.layers.3.mlp.shared_experts.up_proj.weight"), nullptr);
  EXPECT_EQ(opened->find("model.layers.2.mlp.gate.weight"), nullptr);
}

}  // namespace
}  // namespace foveal::model

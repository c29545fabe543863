#include "model/dummy_checkpoint.h"

#include <gtest/gtest.h>

#include "foveal/error.h"

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

TEST(DummyCheckpoint, KnowsTheBenchmarksShapes) {
  for (const char* name : {"Llama-3.1-8B", "Qwen3-30B-A3B", "Qwen2.5-0.5B"}) {
    EXPECT_NO_THROW(open_dummy_checkpoint(kConfigs + name, {}, DummyData::kDevice)) << name;
  }
  try {
    open_dummy_checkpoint(kConfigs + "DeepSeek-V3.2", {}, DummyData::kDevice);
    ADD_FAILURE() << "must throw";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kUnsupported);
    EXPECT_NE(std::string(error.what()).find("deepseek_v32"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace foveal::model

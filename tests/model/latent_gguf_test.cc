// GGUF of latent attention against its safetensors twin, whose weights are the same.
#include <gtest/gtest.h>

#include <filesystem>

#include "golden_case.h"
#include "latent_gguf.h"

namespace foveal::test {
namespace {

using model::GgufBuilder;
using model::TempFolder;

const std::string kMore =
    R"(,"rms_norm_eps":1e-5,"rope_theta":50000,"routed_scaling_factor":1.5,"index_topk":12)";
const std::string kYarn =
    R"(,"rope_scaling":{"type":"yarn","factor":8.0,"original_max_position_embeddings":32,)"
    R"("mscale":1.0,"mscale_all_dim":1.0})";

struct Made {
  std::vector<float> logits;
  std::vector<int32_t> tokens;
  bool operator==(const Made&) const = default;
};

enum class Path : uint8_t { kFloat32, kFast };

/// Of the last 8 prompt rows, and 8 greedy tokens; the fast path on `fast_device`.
Made run(const std::string& path, const std::vector<int32_t>& prompt, Path how = Path::kFloat32) {
  LlmConfig config;
  config.model = path;
  config.device = "cpu";
  config.threads = 1;
  config.kv_cache_config.max_tokens = 1024;
  if (how == Path::kFloat32) {
    config.compute_dtype = "f32";
    config.kv_cache_config.dtype = "f32";
  } else {
    config.device = fast_device();
  }
  LLM llm(config);
  SamplingParams sampling;
  sampling.max_tokens = 8;
  sampling.ignore_eos = true;
  const RequestOutput out =
      llm.generate({.token_ids = prompt}, sampling, {.logits = true, .logits_last = 8});
  return {out.logits.value().data, out.outputs.at(0).token_ids};
}

std::vector<int32_t> prompt_ids() {
  std::vector<int32_t> out;
  for (int32_t at = 0; at < 60; ++at) out.push_back(at * at % 61);
  return out;
}

Made of(const Files& files, const std::vector<int32_t>& prompt = prompt_ids()) {
  const TempFolder folder;
  files.write(folder);
  return run(folder.path(), prompt);
}
Made of(const GgufBuilder& file, const std::vector<int32_t>& prompt = prompt_ids(),
        Path how = Path::kFloat32) {
  const TempFolder folder;
  return run(folder.write("model.gguf", file.build()), prompt, how);
}

void expect_refused(std::string_view part, const GgufBuilder& file,
                    ErrorKind kind = ErrorKind::kCorruptFile) {
  model::expect_error(kind, part, [&] { of(file); });
}

TEST(LatentGguf, GivesWhatItsTwinGives) {
  const std::string topk = kMore.substr(0, kMore.find(R"(,"index_topk")"));
  const std::pair<const char*, std::string> kinds[] = {{"deepseek_v3", topk},
                                                       {"deepseek_v3", topk + kYarn},
                                                       {"deepseek_v32", kMore + kYarn},
                                                       {"glm_moe_dsa", kMore}};
  for (const auto& [type, more] : kinds) {
    const Files files = make_files(type, more);
    const Made want = of(files);
    EXPECT_EQ(of(to_gguf(files)), want) << type << more;
    EXPECT_EQ(of(to_gguf(files, {.apart = false})), want) << type << " in one kv_b_proj";
    if (std::string_view(type) == "deepseek_v32") continue;  // shares by its list alone
    EXPECT_EQ(of(to_gguf(files, {.list_types = false})), want) << type << " without types";
  }
}

TEST(LatentGguf, QueriesMayBeProjectedInOneStep) {
  Files files = make_files("deepseek_v3", R"(,"rms_norm_eps":1e-5,"rope_theta":50000,)"
                                          R"("routed_scaling_factor":1.5,"q_lora_rank":null)");
  EXPECT_EQ(of(to_gguf(files)), of(files));
}

TEST(LatentGguf, WeightsMayBeFloat32) {
  Files files = make_files("deepseek_v32", kMore);
  const Made want = of(files);
  for (auto& [name, tensor] : files.tensors) {
    const std::vector<float> values = files.values(name);
    tensor.type = "F32";
    tensor.data.assign(reinterpret_cast<const char*>(values.data()), values.size() * 4);
  }
  EXPECT_EQ(of(to_gguf(files)), want);
}

TEST(LatentGguf, LayersThatPredictFurtherTokensAreLeftOut) {
  const Files plain = make_files("glm_moe_dsa", kMore);
  Files with = make_files("glm_moe_dsa", kMore + R"(,"num_nextn_predict_layers":1)");
  const Tensor norm = with.tensors.at("model.norm.weight");
  for (const char* name : {"eh_proj", "enorm", "hnorm", "input_layernorm", "shared_head.norm"}) {
    with.tensors[std::string("model.layers.3.") + name + ".weight"] = norm;
  }
  EXPECT_EQ(of(to_gguf(with)), of(plain));
}

TEST(LatentGguf, NamesWhatIsMissing) {
  const std::string layer = "model.layers.2.";
  for (const char* name : {"self_attn.q_a_proj.weight", "self_attn.kv_a_layernorm.weight",
                           "self_attn.indexer.k_norm.bias", "self_attn.indexer.weights_proj.weight",
                           "mlp.gate.e_score_correction_bias"}) {
    Files files = make_files("deepseek_v32", kMore);
    ASSERT_EQ(files.tensors.erase(layer + name), 1U);
    expect_refused("got no tensor '" + layer + name + "'", to_gguf(files));
  }
  Files whole = make_files("deepseek_v32", kMore);
  whole.tensors.erase(layer + "self_attn.kv_b_proj.weight");
  expect_refused("got no tensor '" + layer + "self_attn.kv_b_proj.weight'", to_gguf(whole));
}

TEST(LatentGguf, IndexersAreWhereTheirTensorsAre) {
  Files files = make_files("glm_moe_dsa", kMore);
  for (const char* name :
       {"wq_b.weight", "wk.weight", "k_norm.weight", "k_norm.bias", "weights_proj.weight"}) {
    ASSERT_EQ(files.tensors.erase(std::string("model.layers.2.self_attn.indexer.") + name), 1U);
  }
  expect_refused("got attention.indexer.types with layer 2 full, and no tensors blk.2.indexer.*",
                 to_gguf(files));
  of(to_gguf(files, {.list_types = false}));  // layer 2 shares as well
  std::erase_if(files.tensors, [](const auto& entry) {
    return entry.first.find(".indexer.") != std::string::npos;
  });
  expect_refused("got no tensor blk.0.indexer.attn_k.weight",
                 to_gguf(files, {.list_types = false}));
}

TEST(LatentGguf, OnlyAListLetsLayersOfDeepseekShare) {
  expect_refused("got no tensor blk.1.indexer.attn_k.weight",
                 to_gguf(make_files("deepseek_v32", kMore), {.list_types = false}));
}

TEST(LatentGguf, SharedExpertsAreNotLeftOut) {
  Files files = make_files("deepseek_v32", kMore);
  const std::string one = R"("n_shared_experts":1)";
  files.config.replace(files.config.find(one), one.size(), R"("n_shared_experts":0)");
  constexpr std::string_view kWhat = "got a shared expert, and a number of shared experts of 0";
  expect_refused(kWhat, to_gguf(files));
  model::expect_error(ErrorKind::kCorruptFile, kWhat, [&] { of(files); });
  std::erase_if(files.tensors, [](const auto& entry) {
    return entry.first.find("shared_experts") != std::string::npos &&
           entry.first.find("down_proj") == std::string::npos;
  });
  model::expect_error(ErrorKind::kCorruptFile, "shared_experts.down_proj.weight] got a shared",
                      [&] { of(files); });
}

TEST(LatentGguf, ARoutersBiasIsFinite) {
  Files files = make_files("deepseek_v32", kMore);
  std::string& data = files.tensors.at("model.layers.2.mlp.gate.e_score_correction_bias").data;
  data[0] = '\xff';  // 0x7fff: in bf16 no number
  data[1] = '\x7f';
  expect_refused("got nan at [0] of 'model.layers.2.mlp.gate.e_score_correction_bias'",
                 to_gguf(files));
}

TEST(LatentGguf, RefusesWhatCannotBe) {
  const Files files = make_files("deepseek_v3", kMore.substr(0, kMore.find(R"(,"index_topk")")));
  const auto refuse = [&](std::string_view part, const std::function<void(GgufBuilder&)>& edit,
                          ErrorKind kind = ErrorKind::kCorruptFile) {
    GgufBuilder file = to_gguf(files);
    edit(file);
    expect_refused(part, file, kind);
  };
  refuse("nextn_predict_layers 7 of block_count 3",
         [](GgufBuilder& file) { file.set("deepseek2.nextn_predict_layers", uint32_t{7}); });
  const auto yarn = [](GgufBuilder& file) {
    file.set("deepseek2.rope.scaling.type", "yarn");
    file.set("deepseek2.rope.scaling.factor", 8.0F);
  };
  refuse("no rope.scaling.yarn_log_multiplier", yarn);
  refuse(
      "got rope.scaling.attn_factor for latent attention",
      [&](GgufBuilder& file) {
        yarn(file);
        file.set("deepseek2.rope.scaling.yarn_log_multiplier", 0.1F);
        file.set("deepseek2.rope.scaling.attn_factor", 1.2F);
      },
      ErrorKind::kUnsupported);
  const auto with = [&](const std::string& from, const std::string& to) {
    Files changed = files;
    changed.config.replace(changed.config.find(from), from.size(), to);
    return to_gguf(changed);
  };
  expect_refused("got n_group 3; need one that divides", with(R"("n_group":2)", R"("n_group":3)"));
}

/// Hyperparameters alone, of a model whose experts are chosen by a softmax.
GgufBuilder small_file(uint32_t key_length) {
  GgufBuilder file;
  file.set("general.architecture", "deepseek2");
  for (const auto& [key, value] :
       std::map<std::string, uint32_t>{{"embedding_length", 16},
                                       {"block_count", 1},
                                       {"context_length", 16},
                                       {"attention.head_count", 1},
                                       {"attention.value_length", 16},
                                       {"attention.kv_lora_rank", 16},
                                       {"rope.dimension_count", 8},
                                       {"expert_count", 2},
                                       {"expert_used_count", 1},
                                       {"expert_feed_forward_length", 8},
                                       {"attention.key_length", key_length}}) {
    file.set("deepseek2." + key, value);
  }
  file.f32("token_embd.weight", {16, 4}, std::vector<float>(64, 1.0F));
  return file;
}

TEST(LatentGguf, RefusesHeadsAndChoicesOfExpertsThatItCannotHave) {
  expect_refused("got expert_gating_func 1; need 2 (sigmoid", small_file(24),
                 ErrorKind::kUnsupported);
  expect_refused("got heads of 8 channels, rope.dimension_count 8", small_file(8));
}

class GoldenGguf : public testing::TestWithParam<std::string> {};

TEST_P(GoldenGguf, GivesWhatItsTwinGives) {
  const GoldenFamily family = load_golden(GetParam());
  const Files files = load_files(GetParam());
  for (const GoldenCase& golden : family.cases) {
    const Made made = of(to_gguf(files), golden.prompt);
    EXPECT_EQ(made, run(GetParam(), golden.prompt));
    EXPECT_EQ(of(to_gguf(files), golden.prompt, Path::kFast),
              run(GetParam(), golden.prompt, Path::kFast));
    EXPECT_EQ(made.tokens, std::vector<int32_t>(golden.greedy.begin(), golden.greedy.begin() + 8));
  }
}

/// Those with weights that GGUF has, whose cos and sin have no factor (its files have no mscale).
std::vector<std::string> golden_twins() {
  std::vector<std::string> out;
  for (const std::string& folder : golden_folders()) {
    const std::string name = std::filesystem::path(folder).filename();
    if (name == "deepseek_v3" || name == "deepseek_v32" || name == "glm_moe_dsa") {
      out.push_back(folder);
    }
  }
  return out;
}

GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(GoldenGguf);
INSTANTIATE_TEST_SUITE_P(Families, GoldenGguf, testing::ValuesIn(golden_twins()),
                         [](const testing::TestParamInfo<std::string>& family) {
                           return family.param.substr(family.param.rfind('/') + 1);
                         });

}  // namespace
}  // namespace foveal::test

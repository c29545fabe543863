// Checkpoints of DeepSeek-V3 and its kin: what the files may look like, and what is refused.
#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <map>

#include "base/half.h"
#include "engine/inspect.h"
#include "latent_files.h"
#include "model/test_files.h"

namespace foveal::test {
namespace {

using model::TempFolder;

std::vector<float> logits_of(const Files& files) {
  const TempFolder folder;
  files.write(folder);
  LLM llm(config_of(folder));
  SamplingParams sampling;
  sampling.max_tokens = 1;
  sampling.ignore_eos = true;
  const RequestOutput out =
      llm.generate({.token_ids = std::vector<int32_t>{3, 1, 4, 1, 5, 9, 2, 6}}, sampling,
                   {.logits = true, .logits_last = 8});
  return out.logits->data;
}

void expect_refused(const Files& files, std::string_view part,
                    ErrorKind kind = ErrorKind::kCorruptFile) {
  const TempFolder folder;
  files.write(folder);
  model::expect_error(kind, part, [&] { LLM(config_of(folder)); });
}

const std::string kLayer = "model.layers.2.";

TEST(Latent, ExpertsMayLieInOneTensor) {
  const Files apart = make_files("deepseek_v32");
  Files fused = apart;
  for (const std::string layer : {"model.layers.1.mlp.", "model.layers.2.mlp."}) {
    std::string gate_up;
    std::string down;
    for (int expert = 0; expert < 4; ++expert) {
      const std::string prefix = layer + "experts." + std::to_string(expert) + ".";
      for (const char* name : {"gate_proj.weight", "up_proj.weight"}) {
        gate_up += fused.tensors.at(prefix + name).data;
        fused.tensors.erase(prefix + name);
      }
      down += fused.tensors.at(prefix + "down_proj.weight").data;
      fused.tensors.erase(prefix + "down_proj.weight");
    }
    fused.tensors[layer + "experts.gate_up_proj"] = {"BF16", {4, 96, 128}, gate_up};
    fused.tensors[layer + "experts.down_proj"] = {"BF16", {4, 128, 48}, down};
  }
  EXPECT_EQ(logits_of(fused), logits_of(apart));
  fused.tensors.erase(kLayer + "mlp.experts.down_proj");
  expect_refused(fused, "got no tensor 'model.layers.2.mlp.experts.down_proj'");
}

// transformers writes matrices of no width for no shared experts.
TEST(Latent, SharedExpertsMayHaveNoWidth) {
  const Files none = make_files("deepseek_v32", R"(,"n_shared_experts":0)");
  Files empty = none;
  for (const std::string layer : {"model.layers.1.mlp.", "model.layers.2.mlp."}) {
    const std::string prefix = layer + "shared_experts.";
    EXPECT_FALSE(empty.tensors.contains(prefix + "up_proj.weight"));
    empty.tensors[prefix + "gate_proj.weight"] = {"BF16", {0, 128}, ""};
    empty.tensors[prefix + "up_proj.weight"] = {"BF16", {0, 128}, ""};
    empty.tensors[prefix + "down_proj.weight"] = {"BF16", {128, 0}, ""};
  }
  EXPECT_EQ(logits_of(empty), logits_of(none));
}

TEST(Latent, LayersThatPredictFurtherTokensAreLeftOut) {
  const Files plain = make_files("deepseek_v32");
  Files with = make_files("deepseek_v32", R"(,"num_nextn_predict_layers":1)");
  const Tensor norm = with.tensors.at("model.norm.weight");
  for (const char* name : {"eh_proj", "enorm", "hnorm", "input_layernorm", "shared_head.norm"}) {
    with.tensors[std::string("model.layers.3.") + name + ".weight"] = norm;
  }
  EXPECT_EQ(logits_of(with), logits_of(plain));
  const TempFolder folder;
  with.write(folder);
  testing::internal::CaptureStderr();
  const engine::Inspection shown = engine::inspect(config_of(folder));
  EXPECT_NE(testing::internal::GetCapturedStderr().find("layer 3 predicts further tokens"),
            std::string::npos);
  plain.write(folder);
  EXPECT_EQ(shown.engine.weights_bytes, engine::inspect(config_of(folder)).engine.weights_bytes);
  for (const engine::TensorInspection& tensor : shown.tensors) {
    EXPECT_EQ(tensor.left_out, tensor.name.starts_with("model.layers.3.")) << tensor.name;
  }
  with.tensors.erase("model.layers.3.eh_proj.weight");
  constexpr std::string_view kRefused = "got tensors of layer 3 in a model of 3 layers";
  expect_refused(with, kRefused);
  with.write(folder);
  model::expect_error(ErrorKind::kCorruptFile, kRefused,
                      [&] { engine::inspect(config_of(folder)); });
}

/// e4m3 with a scale for each 128 x 128 block, none a power of two; and what they are multiplied.
void quantise(Files& files, Files& twin, const std::string& name) {
  Tensor& stored = files.tensors.at(name);
  const int64_t rows = stored.shape[0];
  const int64_t cols = stored.shape[1];
  const int64_t blocks = (cols + 127) / 128;
  Tensor scales{"F32", {(rows + 127) / 128, blocks}, ""};
  Tensor plain{"F32", stored.shape, ""};
  std::vector<float> values;
  for (int64_t at = 0; at < scales.shape[0] * blocks; ++at) {
    values.push_back(0.01F + 0.003F * static_cast<float>(at));
  }
  stored.type = "F8_E4M3";
  stored.data.clear();
  for (int64_t at = 0; at < rows * cols; ++at) {
    const auto byte =
        static_cast<uint8_t>((at * 2654435761U >> 7U) % 0x60U | (at % 3 ? 0U : 0x80U));
    stored.data += static_cast<char>(byte);
    const int64_t block = at / cols / 128 * blocks + at % cols / 128;
    const float value = e4m3_to_float(byte) * values[static_cast<size_t>(block)];
    plain.data.append(reinterpret_cast<const char*>(&value), sizeof(value));
  }
  scales.data.assign(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float));
  twin.tensors[name] = plain;
  files.tensors[name + "_scale_inv"] = scales;
}

TEST(Latent, BlockScaledWeightsGiveWhatTheirProductsGive) {
  Files files = make_files("deepseek_v32");
  files.config.back() = ',';
  files.config += R"("quantization_config":{"quant_method":"fp8","weight_block_size":[128,128]}})";
  Files twin = make_files("deepseek_v32");
  for (const char* name : {"self_attn.kv_b_proj", "self_attn.q_b_proj", "self_attn.indexer.wk",
                           "mlp.experts.1.up_proj", "mlp.shared_experts.down_proj"}) {
    quantise(files, twin, kLayer + name + ".weight");
  }
  EXPECT_EQ(logits_of(files), logits_of(twin));
  const std::string scale = kLayer + "self_attn.kv_b_proj.weight_scale_inv";
  Tensor& wrong = files.tensors.at(scale);
  wrong.shape = {2, 1};
  wrong.data += wrong.data;
  expect_refused(files, "got the scale of '" + kLayer + "self_attn.kv_b_proj.weight' as [2, 1]");
  files.tensors.erase(scale);
  expect_refused(files, "got 'model.layers.2.self_attn.kv_b_proj.weight' as f8_e4m3 without");
}

/// One tensor of each kind: of layers, and of a layer's experts, the last that has it.
std::vector<std::string> kinds_of(const Files& files) {
  std::map<std::string, std::string> kinds;
  for (const auto& [name, tensor] : files.tensors) {
    std::string kind = name;
    std::erase_if(kind, [](char c) { return c >= '0' && c <= '9'; });
    kinds[kind] = name;
  }
  std::vector<std::string> out;
  for (const auto& [kind, name] : kinds) out.push_back(name);
  return out;
}

/// Changes one tensor of each kind of every family, which must be refused by its name.
void expect_each_refused(const std::function<void(Files&, const std::string&)>& change,
                         ErrorKind kind = ErrorKind::kCorruptFile) {
  const std::pair<const char*, const char*> families[] = {{"deepseek_v3", ""},
                                                          {"deepseek_v3", R"(,"q_lora_rank":null)"},
                                                          {"deepseek_v32", ""},
                                                          {"glm_moe_dsa", ""}};
  for (const auto& [type, more] : families) {
    const Files whole = make_files(type, more);
    const std::vector<std::string> names = kinds_of(whole);
    EXPECT_GT(names.size(), 20U);
    for (const std::string& name : names) {
      Files files = whole;
      change(files, name);
      expect_refused(files, name, kind);
    }
  }
}

TEST(Latent, NamesWhatIsMissing) {
  expect_each_refused([](Files& files, const std::string& name) { files.tensors.erase(name); });
}

TEST(Latent, NamesWhatHasAnotherShape) {
  expect_each_refused([](Files& files, const std::string& name) {
    Tensor& tensor = files.tensors.at(name);
    tensor.data += tensor.data;
    tensor.shape[0] *= 2;
  });
  expect_each_refused(
      [](Files& files, const std::string& name) { files.tensors.at(name).shape.push_back(1); });
}

TEST(Latent, NamesWhatIsOfAnotherType) {
  expect_each_refused(
      [](Files& files, const std::string& name) {
        Tensor& tensor = files.tensors.at(name);
        tensor.type = "I16";
      },
      ErrorKind::kUnsupported);
}

TEST(Latent, RefusesExpertsThatTheConfigDoesNotCount) {
  Files files = make_files("deepseek_v32");
  const std::string more = kLayer + "mlp.experts.4.down_proj.weight";
  files.tensors[more] = files.tensors.at(kLayer + "mlp.experts.3.down_proj.weight");
  expect_refused(files, "got '" + more + "' in a model of 4 experts");
}

TEST(Latent, RefusesIndexersWhereTheConfigHasNone) {
  Files files = make_files("deepseek_v32");
  const std::string shared = "model.layers.1.self_attn.indexer.wk.weight";
  files.tensors[shared] = files.tensors.at(kLayer + "self_attn.indexer.wk.weight");
  expect_refused(files, "got '" + shared + "' in a layer that has no indexer");
  Files dense = make_files("deepseek_v3");
  dense.tensors[shared] = files.tensors.at(shared);
  expect_refused(dense, "got '" + shared + "' in a layer that has no indexer");
}

TEST(Latent, OtherMethodsRefuseALatentCache) {
  const TempFolder folder;
  make_files("deepseek_v3").write(folder);
  const std::string need = "got a latent cache (multi-head latent attention) on cpu; need one of K";
  LlmConfig config = config_of(folder);
  config.sparse_attention_config = {RocketSparseAttentionConfig{}};
  model::expect_error(ErrorKind::kUnsupported, "[rocket] " + need, [&] { LLM{config}; });
  SkipSoftmaxAttentionConfig skip;
  skip.threshold_scale_factor = PhaseValue{.prefill = 1000, .decode = 500};
  config.sparse_attention_config = {skip};
  model::expect_error(ErrorKind::kUnsupported, "[skip_softmax] " + need, [&] { LLM{config}; });
}

TEST(Latent, PrefixesAreReused) {
  const TempFolder folder;
  make_files("deepseek_v3").write(folder);
  LlmConfig config = config_of(folder);
  config.kv_cache_config.tokens_per_block = 16;
  LLM llm(config);
  std::vector<int32_t> prompt;
  for (int32_t at = 0; at < 100; ++at) prompt.push_back(at * 7 % 64);
  SamplingParams sampling;
  sampling.max_tokens = 8;
  sampling.ignore_eos = true;
  const RequestOutput first = llm.generate({.token_ids = prompt}, sampling);
  const RequestOutput again = llm.generate({.token_ids = prompt}, sampling);
  EXPECT_EQ(first.cached_tokens, 0);
  EXPECT_EQ(again.cached_tokens, 96);
  EXPECT_EQ(first.outputs.at(0).token_ids, again.outputs.at(0).token_ids);
}

}  // namespace
}  // namespace foveal::test

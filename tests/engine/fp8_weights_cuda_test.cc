// Checkpoints with weights in e4m3 on a GPU beside twins that hold the same values in bf16, which
// scales of powers of two make possible.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/half.h"
#include "engine/inspect.h"
#include "foveal/llm.h"
#include "model/latent_files.h"

namespace foveal::test {
namespace {

constexpr char kLlama[] =
    R"({"model_type":"llama","hidden_size":256,"intermediate_size":384,"num_hidden_layers":2,)"
    R"("vocab_size":384,"num_attention_heads":4,"num_key_value_heads":2,"eos_token_id":1,)"
    R"("max_position_embeddings":512})";
constexpr char kMoe[] =
    R"({"model_type":"qwen3_moe","hidden_size":256,"intermediate_size":384,"num_hidden_layers":2,)"
    R"("vocab_size":384,"num_attention_heads":4,"num_key_value_heads":2,"head_dim":64,)"
    R"("num_experts":8,"num_experts_per_tok":2,"moe_intermediate_size":128,"norm_topk_prob":true,)"
    R"("eos_token_id":1,"max_position_embeddings":512})";
constexpr char kDeepseek[] =
    R"({"model_type":"deepseek_v3","hidden_size":256,"intermediate_size":384,)"
    R"("num_hidden_layers":2,"vocab_size":384,"num_attention_heads":2,"num_key_value_heads":2,)"
    R"("max_position_embeddings":512,"q_lora_rank":128,"kv_lora_rank":512,"qk_nope_head_dim":64,)"
    R"("qk_rope_head_dim":64,"v_head_dim":64,"moe_intermediate_size":128,"n_routed_experts":8,)"
    R"("n_shared_experts":1,"num_experts_per_tok":2,"n_group":2,"topk_group":1,)"
    R"("first_k_dense_replace":1,"eos_token_id":1})";
// No product has whole blocks of rows or columns, and rows of down_proj are no multiple of 16.
constexpr char kOddLlama[] =
    R"({"model_type":"llama","hidden_size":192,"intermediate_size":264,"num_hidden_layers":2,)"
    R"("vocab_size":384,"num_attention_heads":3,"num_key_value_heads":1,"head_dim":64,)"
    R"("eos_token_id":1,"max_position_embeddings":512})";
// Experts in blocks are expanded, for they do not lie side by side; those with a scale a row are
// not.
constexpr char kOddMoe[] =
    R"({"model_type":"qwen3_moe","hidden_size":192,"intermediate_size":384,"num_hidden_layers":2,)"
    R"("vocab_size":384,"num_attention_heads":3,"num_key_value_heads":1,"head_dim":64,)"
    R"("num_experts":8,"num_experts_per_tok":2,"moe_intermediate_size":176,"norm_topk_prob":true,)"
    R"("eos_token_id":1,"max_position_embeddings":512})";
constexpr char kOddDeepseek[] =
    R"({"model_type":"deepseek_v3","hidden_size":192,"intermediate_size":288,)"
    R"("num_hidden_layers":2,"vocab_size":384,"num_attention_heads":3,"num_key_value_heads":3,)"
    R"("max_position_embeddings":512,"q_lora_rank":160,"kv_lora_rank":512,"qk_nope_head_dim":64,)"
    R"("qk_rope_head_dim":64,"v_head_dim":64,"moe_intermediate_size":160,"n_routed_experts":8,)"
    R"("n_shared_experts":1,"num_experts_per_tok":2,"n_group":2,"topk_group":1,)"
    R"("first_k_dense_replace":1,"eos_token_id":1})";

enum class Scaling { kTensor, kRow, kBlock };

/// Rows and columns that share a scale.
std::pair<int64_t, int64_t> block_of(Scaling scaling, int64_t rows, int64_t cols) {
  switch (scaling) {
    case Scaling::kTensor:
      return {rows, cols};
    case Scaling::kRow:
      return {1, cols};
    default:
      return {128, 128};
  }
}

template <class T>
std::string bytes_of(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

/// One matrix in e4m3 and its scales into `fp8`, the values they stand for into `twin`.
void quantise(const std::string& name, Scaling scaling, Files& fp8, Files& twin) {
  const std::vector<int64_t> shape = twin.tensors.at(name).shape;
  const int64_t rows = shape[0];
  const int64_t cols = shape[1];
  const auto [block_rows, block_cols] = block_of(scaling, rows, cols);
  const int64_t per_row = (cols + block_cols - 1) / block_cols;
  const int64_t row_blocks = (rows + block_rows - 1) / block_rows;
  const std::vector<float> values = twin.values(name);
  std::vector<float> scales(static_cast<size_t>(row_blocks * per_row), 0x1p-20F);
  const auto scale_at = [&](int64_t at) -> float& {
    return scales[static_cast<size_t>(at / cols / block_rows * per_row + at % cols / block_cols)];
  };
  const auto count = static_cast<int64_t>(values.size());
  for (int64_t at = 0; at < count; ++at) {
    while (std::abs(values[static_cast<size_t>(at)]) > 448 * scale_at(at)) scale_at(at) *= 2;
  }
  std::vector<uint8_t> stored;
  std::vector<uint16_t> wide;
  for (int64_t at = 0; at < count; ++at) {
    const float scale = scale_at(at);
    stored.push_back(float_to_e4m3(values[static_cast<size_t>(at)] / scale));
    wide.push_back(float_to_bf16(e4m3_to_float(stored.back()) * scale));
  }
  std::vector<int64_t> scale_shape{1};
  if (scaling == Scaling::kRow) scale_shape = {rows, 1};
  if (scaling == Scaling::kBlock) scale_shape = {row_blocks, per_row};
  fp8.tensors[name] = {"F8_E4M3", shape, bytes_of(stored)};
  fp8.tensors[name + (scaling == Scaling::kBlock ? "_scale_inv" : "_scale")] = {"F32", scale_shape,
                                                                                bytes_of(scales)};
  twin.tensors[name] = {"BF16", shape, bytes_of(wide)};
}

/// `twin`'s matrices in e4m3; `twin` then holds what they stand for.
Files quantised(Files& twin, Scaling scaling) {
  Files stored = twin;
  stored.config.insert(stored.config.size() - 1,
                       scaling == Scaling::kBlock
                           ? R"(,"quantization_config":{"quant_method":"fp8",)"
                             R"("weight_block_size":[128,128]})"
                           : R"(,"quantization_config":{"quant_method":"fp8"})");
  std::vector<std::string> names;
  for (const auto& [name, tensor] : twin.tensors) {
    if (name.ends_with("_proj.weight") || name.ends_with("with_mqa.weight")) names.push_back(name);
  }
  for (const std::string& name : names) quantise(name, scaling, stored, twin);
  return stored;
}

struct Twins {
  model::TempFolder fp8, wide;

  Twins(const std::string& config, Scaling scaling) {
    Files twin = files_of(config);
    quantised(twin, scaling).write(fp8);
    twin.write(wide);
  }
};

LlmConfig cuda_config(const model::TempFolder& folder) {
  LlmConfig config;
  config.model = folder.path();
  config.device = "cuda";
  config.kv_cache_config.max_tokens = 4096;
  return config;
}

std::vector<int32_t> prompt_of(size_t count) {
  std::vector<int32_t> ids(count);
  uint32_t state = static_cast<uint32_t>(count);
  for (int32_t& id : ids)
    id = static_cast<int32_t>((state = state * 1664525 + 1013904223) >> 8) % 384;
  return ids;
}

SamplingParams greedy(int64_t max_tokens) {
  SamplingParams out;
  out.max_tokens = max_tokens;
  out.ignore_eos = true;
  return out;
}

std::vector<float> logits_of(const LlmConfig& config, size_t prompt) {
  LLM llm(config);
  return llm
      .generate({.token_ids = prompt_of(prompt)}, greedy(1),
                {.logits = true, .logits_last = std::min<int64_t>(8, prompt)})
      .logits.value()
      .data;
}

double relative_error(const std::vector<float>& got, const std::vector<float>& want) {
  double error = 0;
  double size = 0;
  EXPECT_EQ(got.size(), want.size());
  for (size_t at = 0; at < std::min(got.size(), want.size()); ++at) {
    error += std::pow(double{got[at]} - want[at], 2);
    size += std::pow(double{want[at]}, 2);
  }
  return std::sqrt(error / size);
}

class Fp8WeightsCuda : public testing::TestWithParam<std::tuple<const char*, Scaling>> {
 protected:
  Twins twins_{std::get<0>(GetParam()), std::get<1>(GetParam())};
};

// Few rows are read as they are: what differs is the order of sums, and where that moves one of the
// two layers' roundings to bf16, of 2^-9 each, a dozen in a chain.
TEST_P(Fp8WeightsCuda, FewRowsAreTheTwins) {
  const double error = relative_error(logits_of(cuda_config(twins_.fp8), 12),
                                      logits_of(cuda_config(twins_.wide), 12));
  std::printf("12 rows: relative error %.2e\n", error);
  EXPECT_LE(error, 12 * 0x1p-9);
}

// Of many rows each product's are rounded by up to 2^-4 of a value, which averages out to less over
// a sum: a chain of four products a layer, added as independent errors.
TEST_P(Fp8WeightsCuda, ManyRowsLoseWhatRoundingThemMust) {
  const double error = relative_error(logits_of(cuda_config(twins_.fp8), 300),
                                      logits_of(cuda_config(twins_.wide), 300));
  std::printf("300 rows: relative error %.2e\n", error);
  EXPECT_LE(error, 0x1p-4 * std::sqrt(4.0 * 2));
  EXPECT_GT(error, 0x1p-9);  // or they were not rounded
}

TEST_P(Fp8WeightsCuda, RepeatsItself) {
  for (const size_t prompt : {12, 300}) {
    EXPECT_EQ(logits_of(cuda_config(twins_.fp8), prompt),
              logits_of(cuda_config(twins_.fp8), prompt));
  }
}

TEST_P(Fp8WeightsCuda, CompanyChangesNothingInBatchInvariantMode) {
  LlmConfig config = cuda_config(twins_.fp8);
  config.batch_invariant = true;
  const std::vector<size_t> prompts{1, 100, 33, 129, 16, 257};
  LLM llm(config);
  std::vector<std::vector<int32_t>> alone;
  for (const size_t prompt : prompts) {
    alone.push_back(
        llm.generate({.token_ids = prompt_of(prompt)}, greedy(12)).outputs[0].token_ids);
  }
  config.kv_cache_config.enable_block_reuse = false;
  LLM together(config);
  std::vector<Generation> running;
  for (const size_t prompt : prompts) {
    running.push_back(together.submit({.token_ids = prompt_of(prompt)}, greedy(12)));
  }
  for (size_t at = 0; at < running.size(); ++at) {
    EXPECT_EQ(running[at].result().outputs[0].token_ids, alone[at]) << prompts[at];
  }
}

TEST(Fp8Inspection, SaysWhatIsExpanded) {
  const Twins twins(kOddMoe, Scaling::kBlock);
  const engine::Inspection shown = engine::inspect(cuda_config(twins.fp8));
  EXPECT_NE(shown.expanded.find("48 (model.layers.0.mlp.experts.0.down_proj.weight, ...): experts"),
            std::string::npos)
      << shown.expanded;
  const auto expanded =
      std::count_if(shown.tensors.begin(), shown.tensors.end(),
                    [](const engine::TensorInspection& one) { return !one.expanded.empty(); });
  EXPECT_EQ(expanded, 48);
  LlmConfig cpu = cuda_config(twins.fp8);
  cpu.device = "cpu";
  EXPECT_TRUE(engine::inspect(cpu).expanded.empty());
}

void expect_refused(const Files& files, std::string_view part) {
  const model::TempFolder folder;
  files.write(folder);
  model::expect_error(ErrorKind::kCorruptFile, part, [&] { LLM(cuda_config(folder)); });
}

// Experts lie side by side: one of another shape would be read past its end.
TEST(Fp8Experts, AreOfTheConfigsShape) {
  Files twin = files_of(kMoe);
  Files stored = quantised(twin, Scaling::kTensor);
  stored.tensors.at("model.layers.1.mlp.experts.3.up_proj.weight").shape = {256, 128};
  expect_refused(stored, "experts.3.up_proj");
}

// Matrices that the device keeps, one of several that are one product, and one that is expanded.
TEST(Fp8Weights, AreSearchedForNan) {
  Files twin = files_of(kDeepseek);
  const Files stored = quantised(twin, Scaling::kBlock);
  for (const std::string name :
       {"self_attn.q_a_proj", "self_attn.kv_a_proj_with_mqa", "self_attn.kv_b_proj",
        "mlp.experts.7.down_proj", "mlp.shared_experts.up_proj"}) {
    Files odd = stored;
    const std::string full = "model.layers.1." + name + ".weight";
    Tensor& tensor = odd.tensors.at(full);
    const int64_t row = tensor.shape[0] - 1;
    tensor.data.at(static_cast<size_t>(row * tensor.shape[1] + 5)) = '\xff';
    expect_refused(odd, "got a NaN at [" + std::to_string(row) + ", 5] of '" + full + "'");
  }
  Files odd = stored;
  std::string& scales =
      odd.tensors.at("model.layers.1.mlp.experts.2.up_proj.weight_scale_inv").data;
  std::fill_n(scales.begin(), sizeof(float), '\0');
  expect_refused(odd, "got 0 in the scale of 'model.layers.1.mlp.experts.2.up_proj.weight'");
}

INSTANTIATE_TEST_SUITE_P(
    Models, Fp8WeightsCuda,
    testing::Values(std::tuple(kLlama, Scaling::kTensor), std::tuple(kLlama, Scaling::kRow),
                    std::tuple(kLlama, Scaling::kBlock), std::tuple(kMoe, Scaling::kRow),
                    std::tuple(kMoe, Scaling::kBlock), std::tuple(kDeepseek, Scaling::kBlock),
                    std::tuple(kOddLlama, Scaling::kRow), std::tuple(kOddLlama, Scaling::kBlock),
                    std::tuple(kOddMoe, Scaling::kRow), std::tuple(kOddMoe, Scaling::kBlock),
                    std::tuple(kOddDeepseek, Scaling::kRow),
                    std::tuple(kOddDeepseek, Scaling::kBlock)));

}  // namespace
}  // namespace foveal::test

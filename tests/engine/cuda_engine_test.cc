// The engine on a GPU, end to end: against Hugging Face's figures, the CPU engine and itself.
// Families are those under tests/golden, or in the folder that FOVEAL_GOLDEN names.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <random>

#include "cuda_fault.h"
#include "foveal/llm.h"
#include "model/golden_case.h"
#include "model/latent_files.h"

namespace foveal::test {
namespace {

LlmConfig cuda_config(const std::string& model) {
  LlmConfig config;
  config.model = model;
  config.device = "cuda";
  config.kv_cache_config.max_tokens = 16384;
  return config;
}

std::string family(const std::string& name) {
  for (const std::string& folder : golden_folders()) {
    if (std::filesystem::path(folder).filename() == name) return folder;
  }
  throw std::runtime_error("no family " + name);
}

SamplingParams greedy(int64_t max_tokens) {
  SamplingParams out;
  out.max_tokens = max_tokens;
  out.ignore_eos = true;
  return out;
}

std::vector<int32_t> random_ids(size_t count, uint32_t seed, int32_t vocab = 250) {
  std::mt19937 rng(seed);
  std::vector<int32_t> ids(count);
  for (int32_t& id : ids) id = static_cast<int32_t>(rng() % static_cast<uint32_t>(vocab));
  return ids;
}

using Ids = std::vector<std::vector<int32_t>>;

/// Many requests of different lengths at once; their tokens in order of submission.
Ids run_together(const LlmConfig& config, const std::vector<std::vector<int32_t>>& prompts,
                 int64_t max_tokens, double temperature = 0) {
  LLM llm(config);
  std::vector<Generation> running;
  for (size_t idx = 0; idx < prompts.size(); ++idx) {
    SamplingParams sampling = greedy(max_tokens + static_cast<int64_t>(idx % 5));
    sampling.temperature = temperature;
    sampling.seed = idx;
    running.push_back(llm.submit({.token_ids = prompts[idx]}, sampling));
  }
  Ids out;
  for (Generation& generation : running) out.push_back(generation.result().outputs[0].token_ids);
  return out;
}

Ids run_alone(const LlmConfig& config, const std::vector<std::vector<int32_t>>& prompts,
              int64_t max_tokens, double temperature = 0) {
  LLM llm(config);
  Ids out;
  for (size_t idx = 0; idx < prompts.size(); ++idx) {
    SamplingParams sampling = greedy(max_tokens + static_cast<int64_t>(idx % 5));
    sampling.temperature = temperature;
    sampling.seed = idx;
    out.push_back(llm.generate({.token_ids = prompts[idx]}, sampling).outputs[0].token_ids);
  }
  return out;
}

std::vector<std::vector<int32_t>> mixed_prompts() {
  std::vector<std::vector<int32_t>> out;
  for (const size_t len : {1, 700, 33, 128, 16, 129, 300, 15, 64, 511, 2, 90}) {
    out.push_back(random_ids(len, static_cast<uint32_t>(len)));
  }
  return out;
}

class CudaGolden : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    try {
      family(GetParam());
    } catch (const std::runtime_error& error) {
      GTEST_SKIP() << error.what() << "; FOVEAL_GOLDEN names a folder of all";
    }
  }
};

/// What prefill multiplies in: "bf16", "fp8" (a cache in e4m3) or "e4m3" (queries too).
LlmConfig with_types(LlmConfig config, const std::string& types) {
  config.kv_cache_config.dtype = types == "bf16" ? "bf16" : "fp8";
  config.use_fp8_context_fmha = types == "e4m3";
  return config;
}

/// Mean KL from the golden logits, over prompts in one piece and in chunks. Prints it.
double golden_loss(const GoldenFamily& golden, const std::string& types) {
  double sum = 0;
  int64_t rows = 0;
  size_t same = 0;
  size_t steps = 0;
  for (const int64_t chunk : {8192, 64}) {
    LlmConfig config = with_types(cuda_config(golden.folder), types);
    config.prefill_chunk = chunk;
    LLM llm(config);
    for (const GoldenCase& one : golden.cases) {
      const RequestOutput out = llm.generate({.token_ids = one.prompt}, greedy(24),
                                             {.logits = true, .logits_last = one.logits_rows});
      EXPECT_EQ(out.logits.value().rows, one.logits_rows);
      for (int64_t row = 0; row < one.logits_rows; ++row, ++rows) {
        sum += kl(one.logits.data() + row * golden.vocab,
                  out.logits->data.data() + row * golden.vocab, golden.vocab);
      }
      const std::vector<int32_t>& ids = out.outputs[0].token_ids;
      EXPECT_EQ(ids.size(), one.greedy.size());
      same += static_cast<size_t>(std::mismatch(ids.begin(), ids.end(), one.greedy.begin()).first -
                                  ids.begin());
      steps += ids.size();
    }
  }
  const double mean = sum / static_cast<double>(rows);
  std::printf("%-16s %-4s KL %.2e (bf16 run of transformers %.2e), greedy agrees for %zu of %zu\n",
              golden.name.c_str(), types.c_str(), mean, golden.bf16_kl, same, steps);
  return mean;
}

// The loss must stay within twice what transformers' own bfloat16 run loses, as on a CPU. Weights
// in e4m3 have prompts' rows rounded to it too: 16 times as coarsely, and the divergence grows with
// the square of what causes it.
TEST_P(CudaGolden, LosesNoMoreThanBfloat16) {
  const GoldenFamily golden = load_golden(family(GetParam()));
  const double coarser = GetParam().ends_with("_fp8") ? 16 * 16 : 2;
  EXPECT_LE(golden_loss(golden, "bf16"), coarser * golden.bf16_kl);
}

// e4m3 has 4 significant bits to bf16's 8, so keys and values are rounded 16 times as coarsely, and
// the divergence grows with the square of what causes it. Where a router's near tie goes the other
// way the loss is another expert's, as in transformers' own bfloat16 run.
TEST_P(CudaGolden, AnFp8CacheLosesWhatItsRoundingMust) {
  if (GetParam() == "deepseek_v3_no_q_lora") GTEST_SKIP() << "FP8 rows are of 512 and 64 channels";
  const GoldenFamily golden = load_golden(family(GetParam()));
  const double bf16 = golden_loss(golden, "bf16");
  const double fp8 = golden_loss(golden, "fp8");
  // Rounded activations, where weights are in e4m3, may hide it.
  EXPECT_TRUE(fp8 > bf16 || GetParam().ends_with("_fp8"));
  EXPECT_LE(fp8, std::max(16 * 16 * bf16, 2 * golden.bf16_kl));
}

// Where a cache in e4m3 rounds keys and values, this rounds queries and probabilities as coarsely:
// twice as many errors of the same size, and the divergence goes by their squares' sum.
TEST_P(CudaGolden, PrefillInE4m3LosesWhatItsRoundingMust) {
  const GoldenFamily golden = load_golden(family(GetParam()));
  if (GetParam().starts_with("deepseek") || GetParam().starts_with("glm")) {
    const LlmConfig config = with_types(cuda_config(golden.folder), "e4m3");
    EXPECT_THROW(LLM{config}, Error) << "a latent cache";
    return;
  }
  const double bf16 = golden_loss(golden, "bf16");
  const double e4m3 = golden_loss(golden, "e4m3");
  EXPECT_GT(e4m3, bf16);
  EXPECT_LE(e4m3, 2 * std::max(16 * 16 * bf16, 2 * golden.bf16_kl));
}

INSTANTIATE_TEST_SUITE_P(Families, CudaGolden,
                         testing::Values("deepseek_v3", "deepseek_v3_fp8", "deepseek_v3_no_q_lora",
                                         "deepseek_v32", "glm_moe_dsa", "gemma3", "granite",
                                         "llama", "llama3", "mistral", "mistral_sliding", "phi3",
                                         "qwen2", "qwen3", "qwen3_moe", "smollm3"),
                         [](const auto& name) { return name.param; });

/// Those of `names` that are there; a test without any is skipped by its caller.
std::vector<std::string> present(const std::vector<std::string>& names) {
  std::vector<std::string> out;
  for (const std::string& folder : golden_folders()) {
    const std::string name = std::filesystem::path(folder).filename();
    if (std::find(names.begin(), names.end(), name) != names.end()) out.push_back(folder);
  }
  return out;
}

TEST(CudaEngine, RepeatsItself) {
  const LlmConfig config = cuda_config(family("llama3"));
  EXPECT_EQ(run_alone(config, mixed_prompts(), 20), run_alone(config, mixed_prompts(), 20));
}

TEST(CudaEngine, GraphsChangeNothing) {
  for (const std::string& folder :
       present({"llama3", "mistral_sliding", "qwen3_moe", "deepseek_v3", "deepseek_v32"})) {
    for (const double temperature : {0.0, 0.8}) {
      LlmConfig config = cuda_config(folder);
      if (temperature > 0) config.kv_cache_config.dtype = "fp8";
      const Ids recorded = run_alone(config, mixed_prompts(), 40, temperature);
      config.cuda_graph_config.enable = false;
      EXPECT_EQ(recorded, run_alone(config, mixed_prompts(), 40, temperature)) << folder;
    }
  }
}

void expect_company_changes_nothing(LlmConfig config) {
  SCOPED_TRACE(config.model + ' ' + config.kv_cache_config.dtype);
  config.batch_invariant = true;
  const Ids alone = run_alone(config, mixed_prompts(), 30);
  EXPECT_EQ(run_together(config, mixed_prompts(), 30), alone);
  config.cuda_graph_config.enable = false;
  config.cuda_graph_config.enable_padding = false;
  EXPECT_EQ(run_together(config, mixed_prompts(), 30), alone) << "without graphs";
  config.prefill_chunk = 128;
  EXPECT_EQ(run_together(config, mixed_prompts(), 30), alone) << "in chunks";
}

TEST(CudaEngine, BatchedEqualsSingleInBatchInvariantMode) {
  for (const std::string& name :
       present({"llama3", "gemma3", "qwen3_moe", "mistral_sliding", "phi3", "qwen2", "deepseek_v3",
                "deepseek_v3_no_q_lora", "deepseek_v32", "glm_moe_dsa"})) {
    expect_company_changes_nothing(cuda_config(name));
  }
}

TEST(CudaEngine, BatchedEqualsSingleWithAnFp8Cache) {
  for (const std::string& name :
       present({"llama3", "gemma3", "mistral_sliding", "deepseek_v3", "deepseek_v32"})) {
    LlmConfig config = cuda_config(name);
    config.kv_cache_config.dtype = "fp8";
    expect_company_changes_nothing(config);
  }
}

TEST(CudaEngine, BatchedEqualsSingleWithPrefillInE4m3) {
  for (const std::string& name : present({"llama3", "gemma3", "mistral_sliding"})) {
    expect_company_changes_nothing(with_types(cuda_config(name), "e4m3"));
  }
}

/// Logits of the first four tokens after a prompt, so many of whose own are found in the cache.
std::vector<float> first_logits(LLM& llm, const std::vector<int32_t>& ids, int64_t cached) {
  const RequestOutput out =
      llm.generate({.token_ids = ids}, greedy(4), {.generation_logits = true});
  EXPECT_EQ(out.cached_tokens, cached);
  return out.generation_logits.value().data;
}

// A prompt long enough for sums that are set aside, cut where neither tiles nor warpgroups end;
// then the pages of its beginning found again.
TEST(CudaEngine, PrefillInE4m3DoesNotDependOnWhereChunksBegin) {
  for (const std::string& name : present({"llama3", "mistral_sliding"})) {
    const std::vector<int32_t> ids = random_ids(1000, 7);
    LlmConfig config = with_types(cuda_config(name), "e4m3");
    config.batch_invariant = true;
    LLM whole(config);
    const std::vector<float> want = first_logits(whole, ids, 0);
    EXPECT_EQ(first_logits(whole, ids, 992), want) << name << " with a known beginning";
    for (const int64_t chunk : {600, 72, 336}) {
      config.prefill_chunk = chunk;
      LLM llm(config);
      EXPECT_EQ(first_logits(llm, ids, 0), want) << name << " in chunks of " << chunk;
    }
  }
}

// Prompt rows that see every key are computed as heads, but over latents where nothing may depend
// on the batch: both round to bf16 on their way, as transformers' run in it does. Where a router's
// near tie goes the other way the difference is another expert's: one of the prompts may.
TEST(CudaEngine, LatentsAndHeadsAgree) {
  const std::vector<std::string> folders = present({"deepseek_v3", "deepseek_v32"});
  if (folders.empty()) GTEST_SKIP() << "no such family; FOVEAL_GOLDEN names a folder of all";
  for (const std::string& folder : folders) {
    const GoldenFamily golden = load_golden(folder);
    LlmConfig config = cuda_config(folder);
    LLM heads(config);
    config.batch_invariant = true;
    LLM latents(config);
    std::vector<double> losses;
    for (const size_t length : {16, 33, 50, 64}) {  // within the second one's index_topk
      const std::vector<int32_t> ids = random_ids(length, static_cast<uint32_t>(length));
      const std::vector<float> a = first_logits(heads, ids, 0);
      const std::vector<float> b = first_logits(latents, ids, 0);
      EXPECT_NE(a, b) << folder << ": the same form twice";
      losses.push_back(kl(a.data(), b.data(), golden.vocab));
    }
    std::sort(losses.begin(), losses.end());
    EXPECT_LE(losses[2], 2 * golden.bf16_kl) << folder;
  }
}

// Log-probabilities are the host's work, and so the choice beside them.
TEST(CudaEngine, DeviceSamplesAsTheHost) {
  LLM llm(cuda_config(family("llama3")));
  for (uint32_t seed = 0; seed < 12; ++seed) {
    SamplingParams sampling = greedy(24);
    sampling.temperature = seed % 3 == 0 ? 0 : 0.9;
    sampling.seed = seed;
    if (seed % 4 == 1) sampling.top_k = 7;
    if (seed % 4 == 2) sampling.top_p = 0.8;
    if (seed % 4 == 3) sampling.min_p = 0.1;
    if (seed % 2 == 1) {
      sampling.repetition_penalty = 1.2;
      sampling.presence_penalty = 0.3;
      sampling.logit_bias = {{5, 2.0}, {9, -100.0}};
      sampling.bad_words = {{17}, {3, 4}};
    }
    const Prompt prompt{.token_ids = random_ids(50, seed)};
    const RequestOutput device = llm.generate(prompt, sampling);
    sampling.logprobs = 1;
    const RequestOutput host = llm.generate(prompt, sampling);
    EXPECT_EQ(device.outputs[0].token_ids, host.outputs[0].token_ids) << "seed " << seed;
  }
}

LlmConfig skipping(const std::string& model, double prefill, double decode,
                   const std::string& votes = "exact") {
  LlmConfig config = cuda_config(model);
  SkipSoftmaxAttentionConfig skip;
  skip.vote_precision = votes;
  skip.threshold_scale_factor = PhaseValue{.prefill = prefill, .decode = decode};
  config.sparse_attention_config = {skip};
  return config;
}

void expect_skip_softmax_runs_and_counts(const std::string& types,
                                         const std::string& votes = "exact") {
  const std::string model = family("llama3");
  const Prompt prompt{.token_ids = random_ids(900, 4)};
  const auto run = [&](const LlmConfig& config) {
    LLM llm(with_types(config, types));
    return llm.generate(prompt, greedy(24), {.logits = true, .logits_last = 4});
  };
  const RequestOutput dense = run(cuda_config(model));
  const RequestOutput never = run(skipping(model, 1e-30, 1e-30, votes));
  const RequestOutput much = run(skipping(model, 800, 800, votes));
  EXPECT_EQ(never.outputs[0].token_ids, dense.outputs[0].token_ids);
  // Its kernel adds probabilities up in another order: a last bit of the output may differ, and
  // what is rounded after it.
  const int64_t vocab = dense.logits->cols;
  for (int64_t row = 0; row < dense.logits->rows; ++row) {
    EXPECT_LT(
        kl(dense.logits->data.data() + row * vocab, never.logits->data.data() + row * vocab, vocab),
        1e-3);
  }
  const auto pairs = [](const RequestOutput& out) {
    const LayerSparsity total = out.sparsity.total();
    return std::vector<uint64_t>{total.prefill.pairs, total.decode.pairs};
  };
  EXPECT_EQ(pairs(never), pairs(dense));
  EXPECT_EQ(pairs(much), pairs(dense));
  EXPECT_EQ(never.sparsity.total().prefill.skipped(), 0);
  EXPECT_GT(much.sparsity.total().prefill.skipped(), 0);
  EXPECT_GT(much.sparsity.total().decode.skipped(), 0);
}

TEST(CudaEngine, SkipSoftmaxRunsAndCounts) {
  expect_skip_softmax_runs_and_counts("bf16");
  expect_skip_softmax_runs_and_counts("fp8");
  expect_skip_softmax_runs_and_counts("e4m3");
}

TEST(CudaEngine, SkipSoftmaxByInt8VotesRunsAndCounts) {
  expect_skip_softmax_runs_and_counts("bf16", "int8");
  expect_skip_softmax_runs_and_counts("fp8", "int8");
  try {
    LLM llm(with_types(skipping(family("llama3"), 800, 800, "int8"), "e4m3"));
    ADD_FAILURE() << "int8 votes of e4m3 queries were taken";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("vote_precision"), std::string::npos) << error.what();
  }
}

/// RocketKV's: to evict, or the candidates of a decode step where all stays.
constexpr const char* kRocketWays[] = {"evict", "prompt", "all"};

LlmConfig with_rocket(const std::string& model, const std::string& way, int64_t budget,
                      int64_t topk) {
  LlmConfig config = cuda_config(model);
  RocketSparseAttentionConfig rocket{
      .window_size = 8, .kernel_size = 7, .topk = topk, .prompt_budget = budget};
  if (way != "evict") {
    rocket.mode = "multi_turn";
    rocket.candidates = way;
  }
  config.sparse_attention_config = {rocket};
  return config;
}

TEST(CudaEngine, RocketIsDenseWhereNothingIsLeftOut) {
  const Ids dense = run_alone(cuda_config(family("llama3")), mixed_prompts(), 20);
  for (const char* way : kRocketWays) {
    const LlmConfig all = with_rocket(family("llama3"), way, 1 << 20, 1 << 20);
    EXPECT_EQ(run_alone(all, mixed_prompts(), 20), dense) << way;
  }
}

TEST(CudaEngine, RocketBatchedEqualsSingle) {
  for (const char* way : kRocketWays) {
    SCOPED_TRACE(way);
    expect_company_changes_nothing(with_rocket(family("llama3"), way, 64, 8));
  }
}

TEST(CudaEngine, RocketFillsAndReusesATightCache) {
  for (const char* way : kRocketWays) {
    LlmConfig config = with_rocket(family("llama3"), way, 64, 8);
    config.batch_invariant = true;
    const Ids alone = run_alone(config, mixed_prompts(), 30);
    config.kv_cache_config.max_tokens = 1536;
    EXPECT_EQ(run_together(config, mixed_prompts(), 30), alone) << way;
  }
}

TEST(CudaEngine, RocketKeepsAndReadsWhatItReports) {
  constexpr int64_t kPrompt = 900;
  constexpr int64_t kTokens = 41;
  for (const char* way : kRocketWays) {
    LLM llm(with_rocket(family("llama3"), way, 64, 8));
    const RequestOutput out = llm.generate({.token_ids = random_ids(kPrompt, 4)}, greedy(kTokens));
    EXPECT_EQ(out.sparsity.prompt_tokens, uint64_t{kPrompt}) << way;
    const int64_t reached = way == std::string_view("all") ? kPrompt : 64;
    EXPECT_EQ(out.sparsity.kept_tokens, static_cast<uint64_t>(reached)) << way;
    for (const LayerSparsity& layer : out.sparsity.layers) {
      uint64_t text = 0;
      for (int64_t step = 1; step < kTokens; ++step) text += uint64_t{kPrompt} + step;
      EXPECT_EQ(layer.decode.pairs % text, 0U) << way;  // times the query heads
      const uint64_t heads = layer.decode.pairs / text;
      // Eight pages of four tokens, of which the newest may be partly filled.
      EXPECT_LE(layer.decode.pairs_used, heads * 32 * (kTokens - 1)) << way;
      EXPECT_GE(layer.decode.pairs_used, heads * 29 * (kTokens - 1)) << way;
    }
  }
}

LlmConfig with_index_topk(const std::string& model, int64_t topk) {
  LlmConfig config = cuda_config(model);
  DeepSeekSparseAttentionConfig dsa{.index_topk = topk};
  dsa.skip_indexer_for_short_seqs = false;
  config.sparse_attention_config = {dsa};
  return config;
}

// Scores of every key that lead to a set of all of them, against no scores at all.
TEST(CudaEngine, DsaIsDenseWhereNothingIsLeftOut) {
  const std::vector<std::string> folders = present({"deepseek_v32", "glm_moe_dsa"});
  if (folders.empty()) GTEST_SKIP() << "no such family; FOVEAL_GOLDEN names a folder of all";
  for (const std::string& folder : folders) {
    LlmConfig dense = with_index_topk(folder, 1024);
    std::get<DeepSeekSparseAttentionConfig>(dense.sparse_attention_config[0])
        .skip_indexer_for_short_seqs = true;
    const Ids all = run_alone(with_index_topk(folder, 1024), mixed_prompts(), 20);
    EXPECT_EQ(all, run_alone(dense, mixed_prompts(), 20)) << folder;
  }
}

// Latents that have a kernel of their own, over lists and over all keys.
TEST(CudaEngine, DsaOverSmallLatents) {
  const model::TempFolder folder;
  make_files("deepseek_v32", R"(,"index_topk":24)").write(folder);
  std::vector<std::vector<int32_t>> prompts;
  for (const size_t len : {200, 3, 64, 150}) {
    prompts.push_back(random_ids(len, static_cast<uint32_t>(len), 64));
  }
  LlmConfig dense = with_index_topk(folder.path(), 256);
  std::get<DeepSeekSparseAttentionConfig>(dense.sparse_attention_config[0])
      .skip_indexer_for_short_seqs = true;
  const Ids all = run_alone(with_index_topk(folder.path(), 256), prompts, 20);
  EXPECT_EQ(all, run_alone(dense, prompts, 20));
  const LlmConfig few = cuda_config(folder.path());
  EXPECT_NE(run_alone(few, prompts, 20), all);
  LlmConfig together = few;
  together.batch_invariant = true;
  EXPECT_EQ(run_together(together, prompts, 20), run_alone(together, prompts, 20));
}

TEST(CudaEngine, DsaReadsWhatItReports) {
  constexpr uint64_t kPrompt = 700;
  constexpr uint64_t kTopk = 64;
  const std::vector<std::string> folders = present({"deepseek_v32", "glm_moe_dsa"});
  if (folders.empty()) GTEST_SKIP() << "no such family; FOVEAL_GOLDEN names a folder of all";
  for (const std::string& folder : folders) {
    LLM llm(cuda_config(folder));
    const RequestOutput out = llm.generate({.token_ids = random_ids(kPrompt, 4)}, greedy(21));
    for (const LayerSparsity& layer : out.sparsity.layers) {
      const uint64_t heads = 2;
      EXPECT_EQ(layer.prefill.pairs, heads * kPrompt * (kPrompt + 1) / 2);
      EXPECT_EQ(layer.prefill.pairs_used,
                heads * (kTopk * (kTopk + 1) / 2 + (kPrompt - kTopk) * kTopk));
      EXPECT_EQ(layer.decode.pairs_used, heads * kTopk * 20);
    }
  }
}

TEST(CudaEngine, FillsAndReusesATightCache) {
  LlmConfig config = cuda_config(family("llama3"));
  config.batch_invariant = true;
  const Ids alone = run_alone(config, mixed_prompts(), 30);
  config.kv_cache_config.max_tokens = 1024;
  EXPECT_EQ(run_together(config, mixed_prompts(), 30), alone);
}

// Index keys are a lane of the pages: they are found again, computed in chunks, and given up and
// made anew with them.
TEST(CudaEngine, DsaReusesPagesAndGivesThemUp) {
  const std::vector<std::string> folders = present({"deepseek_v32", "glm_moe_dsa"});
  if (folders.empty()) GTEST_SKIP() << "no such family; FOVEAL_GOLDEN names a folder of all";
  for (const std::string& folder : folders) {
    LlmConfig config = cuda_config(folder);
    config.batch_invariant = true;
    const Ids alone = run_alone(config, mixed_prompts(), 30);
    config.kv_cache_config.max_tokens = 1024;
    config.prefill_chunk = 128;
    EXPECT_EQ(run_together(config, mixed_prompts(), 30), alone) << folder;
    LLM llm(config);
    const Prompt prompt{.token_ids = random_ids(700, 700)};
    const RequestOutput first = llm.generate(prompt, greedy(31));
    const RequestOutput again = llm.generate(prompt, greedy(31));
    EXPECT_GE(again.cached_tokens, 600) << folder;
    EXPECT_EQ(first.outputs[0].token_ids, alone[1]) << folder;
    EXPECT_EQ(again.outputs[0].token_ids, alone[1]) << folder;
  }
}

struct Finished {
  std::vector<int32_t> ids;
  FinishReason reason;
  uint64_t pairs;  ///< that decode looked at
  bool operator==(const Finished&) const = default;
};

/// Requests that end for their length and at stop tokens, with penalties and log-probabilities
/// among them, some cancelled on the way.
std::vector<Finished> run_mixture(const LlmConfig& config) {
  LLM llm(config);
  std::vector<Generation> running;
  const std::vector<std::vector<int32_t>> prompts = mixed_prompts();
  for (size_t idx = 0; idx < prompts.size(); ++idx) {
    SamplingParams sampling = greedy(8 + static_cast<int64_t>(idx * 7));
    sampling.temperature = idx % 2 == 0 ? 0 : 0.9;
    sampling.seed = idx;
    // A seventh of the vocabulary ends it.
    if (idx % 3 == 1) {
      for (int32_t token = 0; token < 250; token += 7) sampling.stop_token_ids.push_back(token);
    }
    if (idx == 5) sampling.repetition_penalty = 1.2;
    if (idx == 8) sampling.logprobs = 1;
    running.push_back(llm.submit({.token_ids = prompts[idx]}, sampling));
  }
  std::vector<Generation> left;
  for (uint32_t idx = 0; idx < 3; ++idx) {
    left.push_back(llm.submit({.token_ids = random_ids(40, idx)}, greedy(500)));
  }
  for (Generation& generation : left) generation.cancel();
  std::vector<Finished> out;
  for (Generation& generation : running) {
    const RequestOutput result = generation.result();
    out.push_back({result.outputs[0].token_ids, result.outputs[0].finish_reason,
                   result.sparsity.total().decode.pairs});
  }
  const EngineStats stats = llm.stats();
  EXPECT_EQ(stats.running, 0);
  EXPECT_EQ(stats.kv_pages_used, 0);
  return out;
}

TEST(CudaEngine, StepsThatRunAheadChangeNothing) {
  for (const std::string& folder : present({"llama3", "mistral_sliding"})) {
    for (const int64_t tokens : {16384, 1024}) {
      LlmConfig config = cuda_config(folder);
      config.batch_invariant = true;
      config.kv_cache_config.max_tokens = tokens;
      const std::vector<Finished> ahead = run_mixture(config);
      config.disable_overlap_scheduler = true;
      EXPECT_EQ(run_mixture(config), ahead) << folder << " with " << tokens;
    }
  }
}

TEST(CudaEngine, StepsThatRunAheadAreCounted) {
  LlmConfig config = skipping(family("llama3"), 800, 800);
  const auto run = [&] {
    LLM llm(config);
    return llm.generate({.token_ids = random_ids(900, 4)}, greedy(40)).sparsity.total();
  };
  const LayerSparsity ahead = run();
  config.disable_overlap_scheduler = true;
  const LayerSparsity behind = run();
  EXPECT_EQ(ahead.decode.pairs, behind.decode.pairs);
  EXPECT_EQ(ahead.decode.pairs_used, behind.decode.pairs_used);
  EXPECT_GT(ahead.decode.skipped(), 0);
}

// The token's own log-probability comes from the device, where others' are wanted too from the
// host; the logits are the same. Prompts of more rows than logits are made of at once, and of
// fewer.
TEST(CudaEngine, PromptLogprobsAreTheHosts) {
  LLM llm(cuda_config(family("llama3")));
  for (const size_t length : {1, 2, 40, 500}) {
    const std::vector<int32_t> ids = random_ids(length, 1);
    SamplingParams sampling = greedy(3);
    sampling.prompt_logprobs = 0;
    const RequestOutput scored = llm.generate({.token_ids = ids}, sampling);
    sampling.prompt_logprobs = 1;
    const RequestOutput host = llm.generate({.token_ids = ids}, sampling);
    EXPECT_EQ(scored.outputs[0].token_ids, host.outputs[0].token_ids);
    ASSERT_EQ(scored.prompt_logprobs.size(), length);
    ASSERT_EQ(host.prompt_logprobs.size(), length);
    EXPECT_FALSE(scored.prompt_logprobs[0]);
    for (size_t at = 1; at < length; ++at) {
      ASSERT_TRUE(scored.prompt_logprobs[at]) << at;
      const TokenLogprob& got = *scored.prompt_logprobs[at];
      const TokenLogprob& want = host.prompt_logprobs[at].value();
      EXPECT_EQ(got.token, ids[at]);
      EXPECT_EQ(got.rank, want.rank) << at;
      // 1e-6 of the device's sum, 2e-6 of the host's, a rounding each.
      EXPECT_NEAR(got.logprob, want.logprob, 3e-6 + std::abs(want.logprob) * 0x1p-23) << at;
    }
  }
}

// Requests that want scores, logits and tokens share steps.
TEST(CudaEngine, PromptLogprobsBesideOtherRequests) {
  const std::vector<int32_t> ids = random_ids(70, 5);
  SamplingParams scoring = greedy(0);
  scoring.prompt_logprobs = 0;
  LLM llm(cuda_config(family("llama3")));
  const RequestOutput alone = llm.generate({.token_ids = ids}, scoring);
  std::vector<Generation> others;
  for (uint32_t seed = 0; seed < 3; ++seed) {
    others.push_back(llm.submit({.token_ids = random_ids(30 + seed, seed)}, greedy(20)));
  }
  Generation both = llm.submit({.token_ids = ids}, scoring, {.logits = true, .logits_last = 7});
  Generation again = llm.submit({.token_ids = ids}, scoring);
  for (Generation& other : others) other.result();
  const RequestOutput with_logits = both.result();
  EXPECT_EQ(with_logits.logits.value().rows, 7);
  for (const RequestOutput& out : {with_logits, again.result()}) {
    for (size_t at = 1; at < ids.size(); ++at) {
      EXPECT_NEAR(out.prompt_logprobs[at].value().logprob, alone.prompt_logprobs[at]->logprob, 0.05)
          << at;
    }
  }
}

TEST(CudaEngine, RefusesWhatItHasNoKernelFor) {
  const std::string model = family("llama3");
  for (const auto& change : std::vector<void (*)(LlmConfig&)>{
           [](LlmConfig& config) { config.compute_dtype = "f32"; },
           [](LlmConfig& config) { config.use_fp8_context_fmha = true; },
           [](LlmConfig& config) { config.kv_cache_config.dtype = "f32"; },
           [](LlmConfig& config) { config.kv_cache_config.dtype = "f16"; }}) {
    LlmConfig config = cuda_config(model);
    change(config);
    try {
      LLM llm(config);
      ADD_FAILURE() << "must throw";
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kUnsupported) << error.what();
    }
  }
}

/// Ends the process with 0 when everything after the fault is refused, with the reason.
void use_a_lost_device() {
  LLM llm(cuda_config(family("llama3")));
  const Prompt prompt{.token_ids = random_ids(50, 1)};
  llm.generate(prompt, greedy(4));
  lose_device();
  for (int attempt = 0; attempt < 2; ++attempt) {
    try {
      llm.generate(prompt, greedy(4));
      std::fprintf(stderr, "attempt %d must throw\n", attempt);
      std::exit(1);
    } catch (const Error& error) {
      std::fprintf(stderr, "%s\n", error.what());
    }
  }
  if (!llm.stats().failed) std::exit(1);
}

TEST(CudaEngineDeathTest, ALostDeviceEndsTheEngine) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto run = [] {
    use_a_lost_device();
    std::exit(0);
  };
  EXPECT_EXIT(run(), testing::ExitedWithCode(0),
              "need a new process.*need a (restart|running engine)");
}

// A real model, when FOVEAL_TEST_MODEL names its file: greedy text equals the CPU engine's.
TEST(CudaEngine, RealModelsTextIsTheCpus) {
  const char* model = std::getenv("FOVEAL_TEST_MODEL");
  if (model == nullptr) GTEST_SKIP() << "FOVEAL_TEST_MODEL is not set";
  LlmConfig config = cuda_config(model);
  LLM gpu(config);
  std::printf("ready in %.0f ms\n", gpu.load_ms());
  config.device = "cpu";
  LLM cpu(config);
  size_t differing = 0;
  for (uint32_t idx = 0; idx < 20; ++idx) {
    const std::string text = "Question " + std::to_string(idx) + ": why is the number " +
                             std::to_string(idx * idx + 3) + " remarkable? Answer:";
    SamplingParams sampling = greedy(32);
    sampling.logprobs = 2;
    const RequestOutput ours = gpu.generate({.text = text}, sampling);
    const RequestOutput theirs = cpu.generate({.text = text}, sampling);
    const std::vector<int32_t>& a = ours.outputs[0].token_ids;
    const std::vector<int32_t>& b = theirs.outputs[0].token_ids;
    const auto at =
        static_cast<size_t>(std::mismatch(a.begin(), a.end(), b.begin()).first - a.begin());
    if (at == a.size()) continue;
    ++differing;
    const auto& top = theirs.outputs[0].top_logprobs[at];
    const float margin = top[0].logprob - top[1].logprob;
    std::printf("prompt %u differs at step %zu, where the CPU's margin is %.4f\n", idx, at, margin);
    // Both round to 8 bits on the way; a logit moves by less than this.
    EXPECT_LT(margin, 0.25);
  }
  std::printf("%zu of 20 texts differ, at near ties\n", differing);
}

}  // namespace
}  // namespace foveal::test

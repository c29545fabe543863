// Batched equals single: many mixed requests at once, under pressure, give token for token what
// each gives alone, and no page is lost.
#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>
#include <fstream>
#include <random>
#include <sstream>
#include <thread>

#include "foveal/llm.h"
#include "model/test_files.h"

namespace foveal {
namespace {

struct Job {
  Prompt prompt;
  SamplingParams sampling;
};

LlmConfig config_of(const std::string& model, int64_t kv_tokens, bool reuse) {
  LlmConfig config;
  config.model = model;
  config.device = "cpu";
  config.threads = 2;
  config.kv_cache_config.max_tokens = kv_tokens;
  config.kv_cache_config.enable_block_reuse = reuse;
  // On a GPU the same holds in batch-invariant mode.
  if (const char* device = std::getenv("FOVEAL_TEST_DEVICE")) {
    config.device = device;
    config.batch_invariant = true;
  }
  return config;
}

std::vector<std::vector<int32_t>> ids_of(const RequestOutput& out) {
  std::vector<std::vector<int32_t>> ids;
  for (const CompletionOutput& output : out.outputs) ids.push_back(output.token_ids);
  return ids;
}

/// Prompts of 1 to `longest` ids, a third of which begin alike; greedy and sampled, n up to 4.
std::vector<Job> mixed_jobs(size_t count, size_t longest, int32_t vocab, std::mt19937& rng) {
  const auto below = [&](size_t n) { return std::uniform_int_distribution<size_t>(0, n - 1)(rng); };
  const auto token = [&] { return static_cast<int32_t>(below(static_cast<size_t>(vocab))); };
  std::vector<int32_t> shared(longest / 2);
  std::generate(shared.begin(), shared.end(), token);
  std::vector<Job> jobs(count);
  for (size_t idx = 0; idx < count; ++idx) {
    // Lengths spread over orders of magnitude, the longest among them.
    const size_t len = idx == 0 ? longest : 1 + below(1 + longest / (1 + below(12)) - 1);
    std::vector<int32_t> ids(len);
    std::generate(ids.begin(), ids.end(), token);
    if (idx % 3 == 0) std::copy_n(shared.begin(), std::min(len, shared.size()), ids.begin());
    jobs[idx].prompt = {.token_ids = std::move(ids)};
    SamplingParams& sampling = jobs[idx].sampling;
    sampling.max_tokens = static_cast<int64_t>(1 + below(40));
    sampling.ignore_eos = true;
    if (idx % 4 == 1) {
      sampling.temperature = 1;
      sampling.seed = idx;
    }
    if (idx % 16 == 5) sampling.n = 4;
  }
  return jobs;
}

/// Everything at once, joining over time, with cancelled requests in between.
void expect_equal_together(const LlmConfig& config, const std::vector<Job>& jobs,
                           const std::vector<std::vector<std::vector<int32_t>>>& alone,
                           std::mt19937& rng) {
  LLM llm(config);
  std::vector<Generation> running;
  std::vector<Generation> doomed;
  for (size_t idx = 0; idx < jobs.size(); ++idx) {
    running.push_back(llm.submit(jobs[idx].prompt, jobs[idx].sampling));
    if (idx % 5 == 2) {
      SamplingParams longer = jobs[idx].sampling;
      longer.max_tokens += 50;
      doomed.push_back(llm.submit(jobs[idx].prompt, longer));
    }
    std::this_thread::sleep_for(std::chrono::microseconds(rng() % 2000));
    if (idx % 7 == 3 && !doomed.empty()) doomed.back().cancel();
  }
  for (Generation& generation : doomed) generation.cancel();
  for (size_t idx = 0; idx < jobs.size(); ++idx) {
    EXPECT_EQ(ids_of(running[idx].result()), alone[idx]) << "request " << idx;
  }
  for (Generation& generation : doomed) generation.result();
  const EngineStats stats = llm.stats();
  EXPECT_EQ(stats.running, 0);
  EXPECT_EQ(stats.waiting, 0);
  EXPECT_EQ(stats.kv_pages_used, 0) << "pages were lost";
}

struct Mix {
  std::string model;
  size_t count;
  size_t longest;
  int32_t vocab;
  int64_t tight;  ///< cache tokens that make requests lose their pages
  int64_t wide;
  std::string load_format = "auto";
};

void check(const Mix& mix, const std::vector<SparseAttentionConfig>& sparse = {}) {
  const uint32_t seed = std::random_device{}();
  SCOPED_TRACE(testing::Message() << mix.model << " seed " << seed);
  std::mt19937 rng(seed);
  const std::vector<Job> jobs = mixed_jobs(mix.count, mix.longest, mix.vocab, rng);
  std::vector<std::vector<std::vector<int32_t>>> alone;
  {
    LlmConfig config = config_of(mix.model, mix.wide, /*reuse=*/false);
    config.sparse_attention_config = sparse;
    config.load_format = mix.load_format;
    LLM llm(config);
    for (const Job& job : jobs) alone.push_back(ids_of(llm.generate(job.prompt, job.sampling)));
  }
  for (const bool reuse : {false, true}) {
    for (const int64_t tokens : {mix.tight, mix.wide}) {
      LlmConfig config = config_of(mix.model, tokens, reuse);
      config.sparse_attention_config = sparse;
      config.load_format = mix.load_format;
      SCOPED_TRACE(testing::Message() << "reuse " << reuse << " cache " << tokens);
      expect_equal_together(config, jobs, alone, rng);
    }
  }
}

std::vector<SparseAttentionConfig> skip(double prefill, double decode) {
  SkipSoftmaxAttentionConfig config;
  config.threshold_scale_factor = PhaseValue{.prefill = prefill, .decode = decode};
  return {config};
}

std::string families() {
  const char* other = std::getenv("FOVEAL_GOLDEN");  // where the sources are not
  return other != nullptr ? std::string(other) + "/" : FOVEAL_SOURCE_DIR "/tests/golden/";
}

TEST(Batched, GoldenFamiliesEqualSingle) {
  for (const char* family : {"llama3", "gemma3", "qwen3_moe", "mistral_sliding"}) {
    check({.model = families() + family,
           .count = 64,
           .longest = 700,
           .vocab = 250,
           .tight = 1024,
           .wide = 16384});
  }
}

TEST(Batched, SkippingEqualsSingle) {
  check({.model = families() + "llama3",
         .count = 64,
         .longest = 900,
         .vocab = 250,
         .tight = 1536,
         .wide = 16384},
        skip(100, 30));
}

/// To evict, or the candidates of a decode step where all stays.
constexpr const char* kRocketWays[] = {"evict", "prompt", "all"};

std::vector<SparseAttentionConfig> rocket(const std::string& way, int64_t budget) {
  RocketSparseAttentionConfig config{
      .window_size = 8, .kernel_size = 7, .topk = 8, .prompt_budget = budget};
  if (way != "evict") {
    config.mode = "multi_turn";
    config.candidates = way;
  }
  return {config};
}

bool on_cuda() {
  const char* device = std::getenv("FOVEAL_TEST_DEVICE");
  return device != nullptr && std::string_view(device).starts_with("cuda");
}

/// Random weights, indexers in two of three layers: the checkpoint's own method. Most prompts are
/// longer than what a row attends to, some are not. Latents and heads are of sizes that CUDA takes.
constexpr std::string_view kIndexed = R"({"model_type":"glm_moe_dsa","hidden_size":96,
  "intermediate_size":128,"num_hidden_layers":3,"vocab_size":250,"num_attention_heads":2,
  "num_key_value_heads":2,"max_position_embeddings":1024,"q_lora_rank":64,"kv_lora_rank":512,
  "qk_nope_head_dim":32,"qk_rope_head_dim":64,"v_head_dim":32,"moe_intermediate_size":32,
  "n_routed_experts":4,"n_shared_experts":1,"num_experts_per_tok":2,"n_group":1,"topk_group":1,
  "first_k_dense_replace":1,"eos_token_id":1,"index_n_heads":8,"index_head_dim":64,"index_topk":40,
  "indexer_types":["full","shared","full"],"indexer_rope_interleave":true})";

TEST(Batched, AnIndexedModelEqualsSingle) {
  const model::TempFolder folder;
  folder.write("config.json", kIndexed);
  const Mix mix{.model = folder.path(),
                .count = 64,
                .longest = 700,
                .vocab = 250,
                .tight = 1024,
                .wide = 16384,
                .load_format = "dummy"};
  check(mix);
  DeepSeekSparseAttentionConfig config{.index_topk = 17, .indexer_max_chunk_size = 9};
  config.indexer_reference = !on_cuda();  // which it has on CPUs alone
  check(mix, {config});
}

TEST(Batched, RocketEqualsSingle) {
  const Mix mix{.model = families() + "llama3",
                .count = 64,
                .longest = 900,
                .vocab = 250,
                .tight = 1536,
                .wide = 16384};
  for (const char* way : kRocketWays) check(mix, rocket(way, 64));
  std::vector<SparseAttentionConfig> both = rocket("evict", 64);
  SkipSoftmaxAttentionConfig prefill;
  prefill.threshold_scale_factor = PhaseValue{.prefill = 100.0};
  both.push_back(prefill);
  check(mix, both);
}

TEST(BatchedSlow, RealModelEqualsSingle) {
  const char* model = std::getenv("FOVEAL_TEST_MODEL");
  if (model == nullptr) GTEST_SKIP() << "FOVEAL_TEST_MODEL is not set";
  check(
      {.model = model, .count = 16, .longest = 2600, .vocab = 49000, .tight = 4096, .wide = 65536});
}

TEST(BatchedSlow, RealModelEqualsSingleUnderRocket) {
  const char* model = std::getenv("FOVEAL_TEST_MODEL");
  if (model == nullptr) GTEST_SKIP() << "FOVEAL_TEST_MODEL is not set";
  const Mix mix{
      .model = model, .count = 10, .longest = 1500, .vocab = 49000, .tight = 3072, .wide = 65536};
  for (const char* way : kRocketWays) check(mix, rocket(way, 256));
}

TEST(BatchedSoak, RealModelEqualsSingleAtFullLength) {
  const char* model = std::getenv("FOVEAL_TEST_MODEL");
  if (model == nullptr) GTEST_SKIP() << "FOVEAL_TEST_MODEL is not set";
  const Mix mix{
      .model = model, .count = 64, .longest = 7600, .vocab = 49000, .tight = 16384, .wide = 131072};
  check(mix);
  check(mix, skip(100, 1000));
}

}  // namespace
}  // namespace foveal

// Intermediate tensors of a request on a GPU beside those of a CPU.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "engine_testing.h"
#include "foveal/llm.h"
#include "model/golden_case.h"
#include "model/latent_files.h"

namespace foveal::test {
namespace {

using engine_testing::random_prompt;
using engine_testing::tokens;

constexpr int64_t kPrompt = 200;
constexpr int64_t kForced = 3;  // the last of them is never fed back

std::string llama() {
  for (const std::string& folder : golden_folders()) {
    if (std::filesystem::path(folder).filename() == "llama3") return folder;
  }
  return {};
}

/// In chunks, and with some tokens behind the prompt.
std::vector<TracedTensor> traced(LlmConfig config, const char* device, const std::string& filter,
                                 int32_t vocab = engine_testing::kVocab) {
  config.device = device;
  config.kv_cache_config.max_tokens = 2048;
  config.prefill_chunk = 128;
  LLM llm(config);
  std::vector<int32_t> prompt = random_prompt(5, kPrompt);
  for (int32_t& token : prompt) token %= vocab;
  const std::vector<int32_t> forced(kForced, 7);
  return llm
      .generate({.token_ids = prompt}, tokens(kForced),
                {.forced_tokens = forced, .trace_filter = filter})
      .trace;
}

const TracedTensor* find(const std::vector<TracedTensor>& tensors, const std::string& name) {
  const auto found = std::find_if(tensors.begin(), tensors.end(),
                                  [&](const TracedTensor& one) { return one.name == name; });
  return found == tensors.end() ? nullptr : &*found;
}

double relative_error(const TracedTensor& got, const TracedTensor& want) {
  double error = 0;
  double size = 0;
  for (size_t at = 0; at < want.data.size(); ++at) {
    error += std::pow(double{got.data[at]} - want.data[at], 2);
    size += std::pow(double{want.data[at]}, 2);
  }
  return std::sqrt(error / size);
}

/// Every tensor that the device gives is the CPU's, up to roundings to bf16.
void expect_the_cpus(const LlmConfig& config, const std::vector<std::string>& names,
                     int32_t vocab = engine_testing::kVocab) {
  const std::string filter = "^(hidden|q|k|v|attention)\\.";
  const std::vector<TracedTensor> cpu = traced(config, "cpu", filter, vocab);
  const std::vector<TracedTensor> cuda = traced(config, "cuda", filter, vocab);
  for (const std::string& name : names) {
    const TracedTensor* got = find(cuda, name);
    const TracedTensor* want = find(cpu, name);
    ASSERT_TRUE(got != nullptr && want != nullptr) << name;
    ASSERT_EQ(got->rows, kPrompt + kForced - 1) << name;
    ASSERT_EQ(got->rows, want->rows) << name;
    ASSERT_EQ(got->cols, want->cols) << name;
    const double error = relative_error(*got, *want);
    std::printf("%-12s relative error %.2e\n", name.c_str(), error);
    // Two or three layers' roundings of 2^-9 each, a dozen in a chain; another row's would be 1.
    EXPECT_LE(error, 36 * 0x1p-9) << name;
  }
}

TEST(CudaTrace, TensorsAreTheCpus) {
  LlmConfig config;
  config.model = llama();
  ASSERT_FALSE(config.model.empty());
  expect_the_cpus(
      config, {"hidden.0", "hidden.1", "q.0", "q.1", "v.0", "v.1", "attention.0", "attention.1"});
}

TEST(CudaTrace, LatentsAreTheCpus) {
  const model::TempFolder folder;
  make_files("deepseek_v3").write(folder);
  LlmConfig config;
  config.model = folder.path();
  expect_the_cpus(config, {"hidden.0", "hidden.2", "k.0", "k.2", "attention.0", "attention.2"}, 64);
}

/// Rows of positions in order, filled up with -1: the share of them that `want` has, too.
double shared(const TracedTensor& got, const TracedTensor& want) {
  int64_t both = 0;
  int64_t all = 0;
  for (int64_t row = 0; row < got.rows; ++row) {
    const float* one = got.data.data() + row * got.cols;
    const float* other = want.data.data() + row * want.cols;
    for (int64_t at = 0; at < got.cols && one[at] >= 0; ++at) {
      EXPECT_TRUE(at == 0 || one[at - 1] < one[at]) << got.name << " row " << row;
      both += std::find(other, other + want.cols, one[at]) != other + want.cols ? 1 : 0;
      ++all;
    }
  }
  return static_cast<double>(both) / static_cast<double>(all);
}

// Scores are rounded differently, so that places at a set's end are given differently.
void expect_the_cpus_sets(const LlmConfig& config, const std::string& filter, size_t count,
                          int64_t rows, int64_t cols, int32_t vocab = engine_testing::kVocab) {
  const std::vector<TracedTensor> cpu = traced(config, "cpu", filter, vocab);
  const std::vector<TracedTensor> cuda = traced(config, "cuda", filter, vocab);
  ASSERT_EQ(cuda.size(), count);
  for (const TracedTensor& got : cuda) {
    const TracedTensor* want = find(cpu, got.name);
    ASSERT_NE(want, nullptr) << got.name;
    EXPECT_EQ(got.rows, rows) << got.name;
    EXPECT_EQ(got.cols, cols) << got.name;
    const double share = shared(got, *want);
    std::printf("%-16s %.3f are the CPU's\n", got.name.c_str(), share);
    EXPECT_GE(share, 0.6) << got.name;  // of other sets: less than half
  }
}

TEST(CudaTrace, IndexersSetsAreTheCpus) {
  const model::TempFolder folder;
  make_files("deepseek_v32", R"(,"index_topk":24)").write(folder);
  LlmConfig config;
  config.model = folder.path();
  expect_the_cpus_sets(config, "^dsa\\.topk\\.", 3, kPrompt + kForced - 1, 24, 64);
}

TEST(CudaTrace, KeptPositionsAreTheCpus) {
  LlmConfig config;
  config.model = llama();
  ASSERT_FALSE(config.model.empty());
  RocketSparseAttentionConfig rocket{
      .window_size = 8, .kernel_size = 7, .topk = 8, .prompt_budget = 64};
  for (const char* mode : {"evict", "multi_turn"}) {
    rocket.mode = mode;
    if (rocket.mode == "multi_turn") rocket.candidates = "prompt";
    config.sparse_attention_config = {rocket};
    expect_the_cpus_sets(config, "^rocket\\.prompt\\.", 2, 1, 64);
  }
}

}  // namespace
}  // namespace foveal::test

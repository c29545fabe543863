// The engine against Hugging Face transformers: every family, every chunking, alone and in company.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <thread>

#include "foveal/llm.h"
#include "golden_case.h"

namespace foveal::test {
namespace {

LlmConfig base_config(const GoldenFamily& family, bool exact, int64_t chunk) {
  LlmConfig config;
  config.model = family.folder;
  config.device = "cpu";
  config.threads = 2;
  config.prefill_chunk = chunk;
  config.kv_cache_config.max_tokens = 8192;
  if (exact) {
    config.compute_dtype = "f32";
    config.kv_cache_config.dtype = "f32";
  }
  return config;
}

SamplingParams greedy(int64_t max_tokens) {
  SamplingParams out;
  out.max_tokens = max_tokens;
  out.ignore_eos = true;
  return out;
}

RequestOutput run(LLM& llm, const GoldenCase& golden) {
  return llm.generate({.token_ids = golden.prompt}, greedy(24),
                      {.logits = true, .logits_last = golden.logits_rows});
}

class Golden : public testing::TestWithParam<std::string> {
 protected:
  GoldenFamily family_ = load_golden(GetParam());
};

TEST_P(Golden, Float32AgreesInEveryChunking) {
  for (const int64_t chunk : {1000, 1, 7, 64}) {
    LLM llm(base_config(family_, /*exact=*/true, chunk));
    for (const GoldenCase& golden : family_.cases) {
      const RequestOutput out = run(llm, golden);
      ASSERT_TRUE(out.logits);
      ASSERT_EQ(out.logits->rows, golden.logits_rows);
      ASSERT_EQ(out.logits->cols, family_.vocab);
      double worst = 0;
      for (size_t at = 0; at < golden.logits.size(); ++at) {
        worst = std::max(worst, std::abs(double{golden.logits[at]} - out.logits->data[at]));
      }
      EXPECT_LE(worst, family_.tolerance) << "chunk " << chunk;
      EXPECT_EQ(out.outputs[0].token_ids, golden.greedy) << "chunk " << chunk;
    }
  }
}

// Decode's own kernels, by the log-probability of each chosen token and the runner-up's: both move
// by at most twice what a logit may.
TEST_P(Golden, Float32DecodeAgrees) {
  LLM llm(base_config(family_, /*exact=*/true, 64));
  for (const GoldenCase& golden : family_.cases) {
    if (golden.greedy_logits.empty()) continue;
    SamplingParams sampling = greedy(static_cast<int64_t>(golden.greedy.size()));
    sampling.logprobs = 2;
    const RequestOutput out = llm.generate({.token_ids = golden.prompt}, sampling);
    ASSERT_EQ(out.outputs[0].token_ids, golden.greedy);
    for (size_t step = 0; step < golden.greedy.size(); ++step) {
      const float* row = golden.greedy_logits.data() + step * static_cast<size_t>(family_.vocab);
      const double total = log_total(row, family_.vocab);
      for (const TokenLogprob& top : out.outputs[0].top_logprobs[step]) {
        EXPECT_NEAR(top.logprob, row[top.token] - total, 2 * family_.tolerance) << "step " << step;
      }
    }
  }
}

// What the indexer of each layer chose, at the end of the prompt and at every generated token.
TEST_P(Golden, Float32IndexSetsAreTheSame) {
  for (const int64_t chunk : {1000, 1, 64}) {
    for (const GoldenCase& golden : family_.cases) {
      if (golden.index_sets.empty()) continue;
      LLM llm(base_config(family_, /*exact=*/true, chunk));
      const RequestOutput out = llm.generate({.token_ids = golden.prompt}, greedy(24),
                                             {.trace_filter = "^dsa\\.topk\\."});
      for (const auto& [layer, sets] : golden.index_sets) {
        const auto traced =
            std::find_if(out.trace.begin(), out.trace.end(), [&](const TracedTensor& tensor) {
              return tensor.name == "dsa.topk." + std::to_string(layer);
            });
        ASSERT_NE(traced, out.trace.end()) << "layer " << layer;
        ASSERT_EQ(traced->cols, golden.index_topk);
        ASSERT_GE(traced->data.size(), sets.size());
        const std::vector<int32_t> last(traced->data.end() - static_cast<int64_t>(sets.size()),
                                        traced->data.end());
        EXPECT_EQ(last, sets) << "layer " << layer << ", chunk " << chunk;
      }
    }
  }
}

// float32 rows are the same whatever shares their step: then one comparison with the golden run
// holds for every batch.
TEST_P(Golden, Float32IsTheSameInCompany) {
  std::vector<RequestOutput> alone;
  for (const GoldenCase& golden : family_.cases) {
    LLM llm(base_config(family_, /*exact=*/true, 1000));
    alone.push_back(run(llm, golden));
  }
  LLM llm(base_config(family_, /*exact=*/true, 7));
  std::vector<Generation> running;
  for (int copy = 0; copy < 2; ++copy) {
    for (const GoldenCase& golden : family_.cases) {
      running.push_back(llm.submit({.token_ids = golden.prompt}, greedy(24),
                                   {.logits = true, .logits_last = golden.logits_rows}));
    }
  }
  for (size_t idx = 0; idx < running.size(); ++idx) {
    const RequestOutput out = running[idx].result();
    EXPECT_EQ(out.outputs[0].token_ids, alone[idx % 2].outputs[0].token_ids);
    EXPECT_EQ(out.logits->data, alone[idx % 2].logits->data);
  }
}

// bfloat16 activations and cache: the loss must stay within twice what transformers itself loses.
TEST_P(Golden, FastPathLosesNoMoreThanBfloat16) {
  LLM llm(base_config(family_, /*exact=*/false, 512));
  double sum = 0;
  int64_t rows = 0;
  for (const GoldenCase& golden : family_.cases) {
    const RequestOutput out = run(llm, golden);
    ASSERT_EQ(out.logits->rows, golden.logits_rows);
    for (int64_t row = 0; row < golden.logits_rows; ++row) {
      sum += kl(golden.logits.data() + row * family_.vocab,
                out.logits->data.data() + row * family_.vocab, family_.vocab);
      ++rows;
    }
  }
  EXPECT_LE(sum / static_cast<double>(rows), 2 * family_.bf16_kl);
}

// On a CPU a token's result never depends on what shares its step, on chunking or on threads.
TEST_P(Golden, FastPathIsTheSameInEveryCompany) {
  std::vector<RequestOutput> alone;
  {
    LlmConfig config = base_config(family_, /*exact=*/false, 512);
    config.threads = 1;
    LLM llm(config);
    for (const GoldenCase& golden : family_.cases) alone.push_back(run(llm, golden));
  }
  for (const int64_t chunk : {1, 7, 64}) {
    LlmConfig config = base_config(family_, /*exact=*/false, chunk);
    config.threads = 3;
    LLM llm(config);
    // Two of each at once, so that prompts and decodes of several requests mix in a step.
    std::vector<Generation> running;
    for (int copy = 0; copy < 2; ++copy) {
      for (const GoldenCase& golden : family_.cases) {
        running.push_back(llm.submit({.token_ids = golden.prompt}, greedy(24),
                                     {.logits = true, .logits_last = golden.logits_rows}));
      }
    }
    for (size_t idx = 0; idx < running.size(); ++idx) {
      const RequestOutput out = running[idx].result();
      EXPECT_EQ(out.outputs[0].token_ids, alone[idx % 2].outputs[0].token_ids) << chunk;
      EXPECT_EQ(out.logits->data, alone[idx % 2].logits->data) << chunk;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Families, Golden, testing::ValuesIn(golden_folders()),
                         [](const testing::TestParamInfo<std::string>& family) {
                           return family.param.substr(family.param.rfind('/') + 1);
                         });

}  // namespace
}  // namespace foveal::test

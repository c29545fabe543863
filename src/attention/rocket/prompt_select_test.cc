#include "attention/rocket/prompt_select.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <numeric>
#include <random>

#include "attention/rocket/rocket_testing.h"
#include "base/error_testing.h"

namespace foveal::attention::rocket {
namespace {

using testing::Case;
using testing::CaseShape;

struct RocketPrompt : ::testing::Test {
  void TearDown() override { kernels::cpu::set_active_isa(kernels::cpu::machine_isa()); }

  uint64_t seed = std::random_device{}();
  ThreadPool pool{2};
  Stream stream{Device{}, pool};
};

/// A prompt, its queries and the ring that saw them in chunks.
struct Prompt {
  Prompt(const CaseShape& shape, int32_t window_size, uint64_t seed, Stream& stream)
      : data(shape, seed, stream),
        len(shape.lens[0]),
        window(window_size),
        queries(testing::prompt_queries(data, len, seed + 1)),
        ring(window_size, data.width()) {}

  void push(int32_t chunk) {
    ring = WindowRing(window, data.width());
    for (int32_t at = 0; at < len; at += chunk) {
      ring.push(queries.data() + at * data.width(), data.width(), at, std::min(chunk, len - at));
    }
  }

  PromptSelectParams params(int32_t budget, int32_t kernel) const {
    return {.ring = &ring,
            .kv = data.kv,
            .pages = data.seqs[0].pages,
            .num_heads = data.shape.num_kv_heads * data.shape.group,
            .prompt_len = len,
            .budget = budget,
            .kernel_size = kernel,
            .softmax_scale = data.scale()};
  }

  Case data;
  int32_t len;
  int32_t window;
  std::vector<float> queries;
  WindowRing ring;
};

/// Relative error of a float32 score. s = q.k sums head_dim products, each step rounding by 2^-24
/// of at most the norm, in s itself and in lse; lse is a float of at most norm + log2(len); exp2 is
/// within 2e-7, here and in lse; sums run over blocks of 64 keys (16 lanes of 4 at the least) and
/// over the rows.
double relative_error(const Prompt& prompt, double norm) {
  const double dim = prompt.data.shape.head_dim;
  const double rows = prompt.window * prompt.data.shape.group;
  const double score = 2 * (dim + 2) * norm + norm + 32;
  return (std::numbers::ln2 * score + prompt.len / 64.0 + 32 + rows) * 0x1p-24 + 8e-7;
}

/// Scores within the bound, and a selection that no smaller error could have changed.
void check_against_reference(Prompt& prompt, int32_t budget, int32_t kernel, Stream& stream) {
  prompt.push(prompt.len);
  const PromptSelectParams params = prompt.params(budget, kernel);
  const std::vector<float> got = window_scores(params, stream);
  const OwnedSelection selection = select_prompt(params, stream);
  const int32_t prefix = prompt.len - prompt.window;
  for (int32_t head = 0; head < prompt.data.shape.num_kv_heads; ++head) {
    const auto want = reference::window_scores(prompt.data, prompt.queries, prompt.window, head,
                                               testing::rounds(prompt.data));
    const double relative = relative_error(prompt, want.norm);
    ASSERT_LT(relative, 1e-3) << "the bound says nothing";
    for (int32_t key = 0; key < prefix; ++key) {
      ASSERT_NEAR(got[head * prefix + key], want.scores[key], relative * want.scores[key] + 1e-30)
          << "head " << head << " key " << key;
    }
    const int64_t best = budget - prompt.window;
    const std::vector<double> pooled = reference::max_pool(want.scores, kernel);
    std::vector<double> sorted(pooled);
    std::sort(sorted.rbegin(), sorted.rend());
    const double least = sorted[best - 1];
    const auto begin = selection.indices.begin() + selection.offsets[head];
    const std::vector<int32_t> kept(begin, selection.indices.begin() + selection.offsets[head + 1]);
    ASSERT_EQ(std::ssize(kept), budget);
    ASSERT_TRUE(std::is_sorted(kept.begin(), kept.end(), std::less_equal<>()));
    for (int32_t idx = 0; idx < prompt.window; ++idx) ASSERT_EQ(kept[best + idx], prefix + idx);
    for (int32_t key = 0; key < prefix; ++key) {
      const bool is_kept = std::binary_search(kept.begin(), kept.end(), key);
      if (is_kept) {
        ASSERT_GE(pooled[key], least * (1 - 2 * relative)) << key;
      } else {
        ASSERT_LE(pooled[key], least * (1 + 2 * relative)) << key;
      }
    }
    // Exactly what the scores say, of equals the lowest: pooling makes plateaus.
    const std::vector<float> own(got.begin() + head * prefix, got.begin() + (head + 1) * prefix);
    const auto exact = reference::top(reference::max_pool(own, kernel), best);
    ASSERT_TRUE(std::equal(exact.begin(), exact.end(), kept.begin())) << "head " << head;
  }
}

TEST_F(RocketPrompt, MatchesReference) {
  for (const kernels::cpu::Isa isa : testing::isa_levels()) {
    kernels::cpu::set_active_isa(isa);
    for (const DType dtype : {DType::kBF16, DType::kF16, DType::kF32}) {
      for (const int32_t head_dim : {2, 46, 64}) {
        for (const int32_t cache_page : {16, 32, 48}) {
          SCOPED_TRACE(::testing::Message()
                       << kernels::cpu::isa_name(isa) << " dtype " << dtype_name(dtype) << " dim "
                       << head_dim << " page " << cache_page << " seed " << seed);
          Prompt prompt({.group = cache_page == 16 ? 1 : 3,
                         .head_dim = head_dim,
                         .cache_page = cache_page,
                         .dtype = dtype,
                         .lens = {163}},
                        5, seed++, stream);
          ASSERT_NO_FATAL_FAILURE(check_against_reference(prompt, 40, 7, stream));
        }
      }
    }
  }
}

TEST_F(RocketPrompt, MatchesReferenceOverSplits) {
  for (const kernels::cpu::Isa isa : testing::isa_levels()) {
    kernels::cpu::set_active_isa(isa);
    for (const int32_t len : {1024, 1029, 2100}) {  // the window's keys in a split of their own
      SCOPED_TRACE(::testing::Message()
                   << kernels::cpu::isa_name(isa) << " len " << len << " seed " << seed);
      Prompt prompt({.num_kv_heads = 1, .group = 2, .head_dim = 16, .lens = {len}}, 9, seed++,
                    stream);
      ASSERT_NO_FATAL_FAILURE(check_against_reference(prompt, 300, 63, stream));
    }
  }
}

TEST_F(RocketPrompt, OddSizes) {
  for (const kernels::cpu::Isa isa : testing::isa_levels()) {
    kernels::cpu::set_active_isa(isa);
    for (const int32_t window : {1, 2, 33}) {
      for (const int32_t over : {1, 2, 40}) {
        for (const int32_t group : {1, 5, 8}) {
          SCOPED_TRACE(::testing::Message() << kernels::cpu::isa_name(isa) << " window " << window
                                            << " over " << over << " seed " << seed);
          Prompt prompt({.group = group, .head_dim = 8, .lens = {window + 1 + over}}, window,
                        seed++, stream);
          ASSERT_NO_FATAL_FAILURE(check_against_reference(prompt, window + 1, 63, stream));
          ASSERT_NO_FATAL_FAILURE(check_against_reference(prompt, window + 1, 1, stream));
        }
      }
    }
  }
}

TEST_F(RocketPrompt, ChunksAndThreadsChangeNoBit) {
  for (const kernels::cpu::Isa isa : testing::isa_levels()) {
    kernels::cpu::set_active_isa(isa);
    Prompt prompt({.head_dim = 16, .lens = {1337}}, 32, seed, stream);
    prompt.push(prompt.len);
    const PromptSelectParams params = prompt.params(200, 63);
    const std::vector<float> scores = window_scores(params, stream);
    const OwnedSelection want = select_prompt(params, stream);
    for (const int32_t chunk : {1, 7, 31, 32, 33, 64, 1000, 1336}) {
      prompt.push(chunk);
      EXPECT_EQ(window_scores(params, stream), scores) << "chunk " << chunk;
      EXPECT_EQ(select_prompt(params, stream).indices, want.indices) << "chunk " << chunk;
    }
    for (const int threads : {1, 3}) {
      ThreadPool other(threads);
      Stream other_stream(Device{}, other);
      EXPECT_EQ(window_scores(params, other_stream), scores) << threads << " threads";
    }
  }
}

TEST_F(RocketPrompt, ReusedPrefixNeedsNoQueries) {
  Prompt prompt({.head_dim = 16, .lens = {301}}, 32, seed, stream);
  prompt.push(prompt.len);
  const OwnedSelection want = select_prompt(prompt.params(100, 7), stream);
  for (const int32_t reused : {1, 200, 269}) {
    prompt.ring = WindowRing(32, prompt.data.width());
    prompt.ring.push(prompt.queries.data() + reused * prompt.data.width(), prompt.data.width(),
                     reused, prompt.len - reused);
    EXPECT_EQ(select_prompt(prompt.params(100, 7), stream).indices, want.indices);
  }
  prompt.ring = WindowRing(32, prompt.data.width());
  prompt.ring.push(prompt.queries.data(), prompt.data.width(), 270, 31);
  EXPECT_THROW(select_prompt(prompt.params(100, 7), stream), Error);
}

TEST_F(RocketPrompt, PromptsWithinTheBudgetKeepEverything) {
  for (const int32_t len : {1, 3, 31, 32, 33, 99, 100}) {
    Prompt prompt({.head_dim = 16, .lens = {len}}, 32, seed, stream);
    prompt.push(len);
    const OwnedSelection got = select_prompt(prompt.params(100, 63), stream);
    EXPECT_EQ(got.kind, SelectionKind::kTokens);
    EXPECT_EQ(got.offsets, (std::vector<int32_t>{0, len, 2 * len}));
    for (int32_t at = 0; at < 2 * len; ++at) EXPECT_EQ(got.indices[at], at % len);
  }
}

TEST_F(RocketPrompt, TheSinkIsKeptWhateverItsScores) {
  Prompt prompt({.head_dim = 16, .lens = {300}}, 32, seed, stream);
  prompt.push(prompt.len);
  PromptSelectParams params = prompt.params(100, 7);
  params.sink = 20;
  const OwnedSelection got = select_prompt(params, stream);
  const std::vector<float> scores = window_scores(params, stream);
  for (int32_t head = 0; head < 2; ++head) {
    std::vector<float> pooled(268);
    max_pool({scores.data() + head * 268, 268}, 7, pooled);
    pooled.erase(pooled.begin(), pooled.begin() + 20);
    std::vector<int32_t> want;
    for (int32_t token = 0; token < 20; ++token) want.push_back(token);
    for (const int32_t token : reference::top(pooled, 48)) want.push_back(20 + token);
    for (int32_t token = 268; token < 300; ++token) want.push_back(token);
    EXPECT_TRUE(std::equal(want.begin(), want.end(), got.indices.begin() + head * 100)) << head;
  }
  params.sink = 68;
  EXPECT_THROW(select_prompt(params, stream), Error) << "the window has no place left";
}

TEST_F(RocketPrompt, EqualScoresKeepTheLowest) {
  Prompt prompt({.head_dim = 16, .lens = {200}}, 4, seed, stream);
  std::fill(prompt.queries.begin(), prompt.queries.end(), 0.0F);  // every key weighs the same,
  prompt.push(64);                                                // up to the causal edge
  const OwnedSelection got = select_prompt(prompt.params(50, 5), stream);
  for (int32_t at = 0; at < 46; ++at) EXPECT_EQ(got.indices[at], at);
  for (int32_t at = 46; at < 50; ++at) EXPECT_EQ(got.indices[at], 150 + at);
}

TEST_F(RocketPrompt, MaxPoolIsTheDefinition) {
  std::mt19937_64 rng(seed);
  for (int32_t n = 1; n < 80; ++n) {
    std::vector<float> in(n);
    for (float& x : in) x = static_cast<float>(rng() % 64);
    for (const int32_t kernel : {1, 3, 5, 7, 31, 63, 79, 81, 1001}) {
      std::vector<float> out(n);
      max_pool(in, kernel, out);
      ASSERT_EQ(out, reference::max_pool(in, kernel)) << n << " " << kernel << " seed " << seed;
    }
  }
}

std::string error_of(const PromptSelectParams& params, Stream& stream) {
  return test::error_text([&] { select_prompt(params, stream); });
}

TEST_F(RocketPrompt, Refuses) {
  Prompt prompt({.head_dim = 16, .lens = {200}}, 4, seed, stream);
  prompt.push(64);
  EXPECT_EQ(error_of(prompt.params(4, 5), stream),
            "[rocket.select_prompt] got a budget of 4 tokens; need more than the window's 4 and "
            "the first 0");
  EXPECT_EQ(error_of(prompt.params(50, 4), stream),
            "[rocket.select_prompt] got kernel_size 4; need an odd number");
  PromptSelectParams params = prompt.params(50, 5);
  params.prompt_len = 201;
  EXPECT_EQ(error_of(params, stream),
            "[rocket.select_prompt] got queries of 200 positions; need the prompt's 201");
  params = prompt.params(50, 5);
  params.kv.dtype = DType::kI8;
  EXPECT_EQ(error_of(params, stream),
            "[rocket.select_prompt] got a i8 cache; need bf16, f16 or f32");
  EXPECT_THROW(prompt.ring.push(prompt.queries.data(), prompt.data.width(), 199, 1), Error);
}

}  // namespace
}  // namespace foveal::attention::rocket

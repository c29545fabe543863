#include "sampler/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

#include "foveal/error.h"
#include "sampler/choice.h"
#include "sampler/philox.h"

namespace foveal::sampler {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

int32_t greedy(const SamplingParams& params, std::vector<float> logits,
               const std::vector<int32_t>& prompt = {}, const std::vector<int32_t>& generated = {},
               const std::vector<int32_t>& end_tokens = {}) {
  Sampler sampler(params, static_cast<int32_t>(logits.size()), prompt, end_tokens);
  for (const int32_t token : generated) sampler.accept(token);
  return sampler.sample(logits).token;
}

TEST(Sampler, GreedyTakesTheBestAndTheLowestOfEquals) {
  EXPECT_EQ(greedy({}, {1, 5, 5, 2}), 1);
  EXPECT_EQ(greedy({}, {-0.0F, 0.0F}), 0);
  EXPECT_EQ(greedy({}, {7}), 0);
  EXPECT_EQ(greedy({}, {-kInf, -kInf, -3, -kInf}), 2);
}

TEST(Sampler, BadLogitsAreTheModelsFault) {
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), kInf}) {
    std::vector<float> logits(500, 1.0F);
    logits[431] = bad;
    try {
      greedy({}, logits);
      FAIL() << "accepted " << bad;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kInternal);
      EXPECT_NE(std::string(error.what()).find("431"), std::string::npos) << error.what();
    }
  }
  EXPECT_THROW(greedy({}, {-kInf, -kInf}), Error);
  Sampler sampler({}, 3, {}, {});
  std::vector<float> short_row(2);
  EXPECT_THROW(sampler.sample(short_row), Error);
}

TEST(Sampler, BanOfEverythingIsARefusal) {
  SamplingParams params;
  params.bad_words = {{0}, {1}, {2}};
  for (const double temperature : {0.0, 1.0}) {
    params.temperature = temperature;
    try {
      greedy(params, {1, 2, 3});
      FAIL();
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kInvalidArgument);
    }
  }
}

TEST(Sampler, LogitBias) {
  SamplingParams params;
  params.logit_bias = {{2, 3.0}, {0, -100.0}};
  EXPECT_EQ(greedy(params, {3, 2, 0, 1}), 2);
  EXPECT_EQ(greedy(params, {3, 2, -kInf, 1}), 1);  // nothing raises an impossible token
}

TEST(Sampler, BadWordsAreBannedOnlyAfterTheirStart) {
  SamplingParams params;
  params.bad_words = {{3}, {1, 2}, {4, 1, 0}};
  const std::vector<float> logits{3, 1, 4, 9, 2};
  EXPECT_EQ(greedy(params, logits), 2);            // 3 is always banned
  EXPECT_EQ(greedy(params, logits, {1}), 0);       // "1 2" would span prompt and text
  EXPECT_EQ(greedy(params, logits, {}, {1}), 0);   // 2 banned after 1
  EXPECT_EQ(greedy(params, logits, {4}, {1}), 4);  // and 0 after 4 1
  EXPECT_EQ(greedy(params, logits, {1}, {4}), 2);  // neither
  std::vector<int32_t> longer(500, 0);             // past any trimming of the history
  longer.insert(longer.end(), {4, 1});
  EXPECT_EQ(greedy(params, logits, {}, longer), 4);
}

TEST(Sampler, MinTokensHoldsEndAndStopTokensBack) {
  SamplingParams params;
  params.min_tokens = 2;
  params.stop_token_ids = {1};
  const std::vector<float> logits{9, 8, 7};
  const std::vector<int32_t> end_tokens{0, 500, -1};  // ids that no logit has are harmless
  EXPECT_EQ(greedy(params, logits, {}, {}, end_tokens), 2);
  EXPECT_EQ(greedy(params, logits, {}, {2}, end_tokens), 2);
  EXPECT_EQ(greedy(params, logits, {}, {2, 2}, end_tokens), 0);
}

TEST(Sampler, RepetitionCountsPromptAndTextOthersTextOnly) {
  const std::vector<float> logits{4, 3, -1, -1.5F};
  SamplingParams repetition;
  repetition.repetition_penalty = 2;
  EXPECT_EQ(greedy(repetition, logits), 0);
  EXPECT_EQ(greedy(repetition, logits, {0}), 1);  // 4 / 2 < 3
  EXPECT_EQ(greedy(repetition, logits, {0, 1000, -5}), 1);
  EXPECT_EQ(greedy(repetition, logits, {}, {0}), 1);
  EXPECT_EQ(greedy(repetition, {-1, -1.5F}, {0}), 1);  // -1 * 2 < -1.5
  SamplingParams presence;
  presence.presence_penalty = 1.5;
  EXPECT_EQ(greedy(presence, logits, {0}), 0);
  EXPECT_EQ(greedy(presence, logits, {}, {0}), 1);
  EXPECT_EQ(greedy(presence, {4, 2}, {}, {0, 0, 0}), 0);  // once, however often
  SamplingParams frequency;
  frequency.frequency_penalty = 0.6;
  EXPECT_EQ(greedy(frequency, logits, {}, {0}), 0);
  EXPECT_EQ(greedy(frequency, logits, {0, 0}, {0}), 0);
  EXPECT_EQ(greedy(frequency, logits, {}, {0, 0}), 1);  // 4 - 1.2 < 3
}

TEST(Sampler, ExtremePenaltiesSaturate) {
  SamplingParams params;
  params.repetition_penalty = 1e-300;
  params.temperature = 1;
  EXPECT_EQ(greedy(params, {2, 3}, {0}), 0);
  params.repetition_penalty = 1e300;
  EXPECT_EQ(greedy(params, {-2, -3}, {0}), 1);
}

TEST(Sampler, LogprobsAreOfTheUnmodifiedLogits) {
  SamplingParams params;
  params.logprobs = 2;
  params.bad_words = {{1}};
  params.temperature = 0;
  Sampler sampler(params, 4, {}, {});
  std::vector<float> logits{1, 3, 2, 2};
  const SampleResult result = sampler.sample(logits);
  EXPECT_EQ(result.token, 2);
  const double total = std::exp(1.0) + std::exp(3.0) + 2 * std::exp(2.0);
  EXPECT_NEAR(result.logprob, 2 - std::log(total), 2e-6 + 0x1p-23);
  EXPECT_EQ(result.rank, 2);
  ASSERT_EQ(result.top.size(), 2U);
  EXPECT_EQ(result.top[0].token, 1);
  EXPECT_NEAR(result.top[0].logprob, 3 - std::log(total), 2e-6 + 0x1p-23);
  EXPECT_EQ(result.top[1].token, 2);
  EXPECT_EQ(result.top[1].rank, 2);
  logits = {1, 3, 2, 2};
  EXPECT_EQ(token_logprob(logits, 3).rank, 3);  // equal to token 2, which comes first
  EXPECT_EQ(top_logprobs(logits, 20).size(), 4U);
  EXPECT_THROW(token_logprob(logits, 4), Error);
  EXPECT_THROW(token_logprob(logits, -1), Error);
}

TEST(Sampler, LogprobsOfALargeVocabulary) {
  const uint32_t seed = std::random_device{}();
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::mt19937 rng(seed);
  std::vector<float> logits(50021);
  for (float& logit : logits) logit = std::normal_distribution<float>(0, 9)(rng);
  long double total = 0;
  for (const float logit : logits) total += std::exp(static_cast<long double>(logit));
  for (const int32_t token : {0, 777, 50020}) {
    const float own = logits[static_cast<size_t>(token)];
    const auto want = static_cast<double>(own - std::log(total));
    const TokenLogprob got = token_logprob(logits, token);
    // log_sum_exp promises 2e-6; the last step rounds to float.
    EXPECT_NEAR(got.logprob, want, std::abs(want) * 0x1p-24 + 2e-6);
    int32_t better = 0;
    for (int32_t other = 0; other < 50021; ++other) {
      const float value = logits[static_cast<size_t>(other)];
      better += value > own || (value == own && other < token) ? 1 : 0;
    }
    EXPECT_EQ(got.rank, better + 1);
  }
}

/// A plain second implementation of bias, bans and penalties, in double over dense arrays.
std::vector<float> edit_by_definition(const SamplingParams& params, std::vector<float> raw,
                                      const std::vector<int32_t>& prompt,
                                      const std::vector<int32_t>& text,
                                      const std::vector<int32_t>& ends) {
  std::vector<double> logits(raw.begin(), raw.end());
  for (const auto& [token, bias] : params.logit_bias) {
    logits[static_cast<size_t>(token)] =
        static_cast<float>(logits[static_cast<size_t>(token)] + bias);
  }
  std::vector<int32_t> all = prompt;
  all.insert(all.end(), text.begin(), text.end());
  for (size_t token = 0; token < logits.size(); ++token) {
    const auto id = static_cast<int32_t>(token);
    const bool in_all = std::count(all.begin(), all.end(), id) > 0;
    const auto times = static_cast<double>(std::count(text.begin(), text.end(), id));
    double& x = logits[token];
    if (in_all) x = x > 0 ? x / params.repetition_penalty : x * params.repetition_penalty;
    x -= times * params.frequency_penalty + (times > 0 ? params.presence_penalty : 0);
    for (const auto& word : params.bad_words) {
      std::vector<int32_t> with = all;
      with.push_back(id);
      if (with.size() >= word.size() && std::equal(word.rbegin(), word.rend(), with.rbegin())) {
        x = -kInf;
      }
    }
    const bool ends_text =
        std::count(ends.begin(), ends.end(), id) > 0 ||
        std::count(params.stop_token_ids.begin(), params.stop_token_ids.end(), id);
    if (ends_text && static_cast<int64_t>(text.size()) < params.min_tokens) x = -kInf;
  }
  return {logits.begin(), logits.end()};
}

SamplingParams random_params(std::mt19937& rng, int32_t vocab) {
  const auto token = [&] { return static_cast<int32_t>(rng() % static_cast<uint32_t>(vocab)); };
  const auto uniform = [&](double low, double high) {
    return std::uniform_real_distribution<double>(low, high)(rng);
  };
  SamplingParams params;
  params.seed = rng();
  params.temperature = rng() % 4 == 0 ? 0 : uniform(0.2, 2);
  if (rng() % 2 == 0) params.top_k = 1 + token();
  if (rng() % 2 == 0) params.top_p = uniform(0.05, 0.99);
  if (rng() % 2 == 0) params.min_p = uniform(0, 0.3);
  if (rng() % 2 == 0) params.repetition_penalty = uniform(0.5, 2);
  if (rng() % 2 == 0) params.presence_penalty = uniform(-2, 2);
  if (rng() % 2 == 0) params.frequency_penalty = uniform(-2, 2);
  if (rng() % 2 == 0) params.logit_bias = {{token(), uniform(-9, 9)}, {token(), uniform(-9, 9)}};
  if (rng() % 2 == 0) params.bad_words = {{token()}, {token(), token()}, {token(), token()}};
  if (rng() % 2 == 0) params.stop_token_ids = {token()};
  params.min_tokens = static_cast<int64_t>(rng() % 8);
  if (rng() % 2 == 0) params.logprobs = 3;
  return params;
}

/// Whole texts, token by token, against the definition; and a second sampler that is fed the first
/// one's text through accept() goes on exactly as the first does.
TEST(Sampler, TextsAgreeWithTheDefinitionAndReplay) {
  const uint32_t seed = std::random_device{}();
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::mt19937 rng(seed);
  for (int trial = 0; trial < 200; ++trial) {
    const auto vocab = static_cast<int32_t>(8 + rng() % 40);
    const SamplingParams params = random_params(rng, vocab);
    std::vector<int32_t> prompt(rng() % 20);
    for (int32_t& token : prompt)
      token = static_cast<int32_t>(rng() % static_cast<uint32_t>(vocab));
    const std::vector<int32_t> ends{0, 3};
    Sampler sampler(params, vocab, prompt, ends);
    Sampler replayed(params, vocab, prompt, ends);
    std::vector<int32_t> text;
    for (uint64_t step = 0; step < 20; ++step) {
      std::vector<float> logits(static_cast<size_t>(vocab));
      for (float& logit : logits) logit = std::normal_distribution<float>(0, 2)(rng);
      const std::vector<float> edited = edit_by_definition(params, logits, prompt, text, ends);
      const Filters filters{params.temperature, params.top_k, params.top_p, params.min_p};
      const int32_t want = params.temperature == 0
                               ? argmax(edited)
                               : choose(edited, filters, uniform_draw(*params.seed, step));
      std::vector<float> row = logits;
      const int32_t got = sampler.sample(row).token;
      ASSERT_EQ(got, want) << "trial " << trial << " step " << step;
      if (step < 10) {
        replayed.accept(got);
      } else {
        row = logits;
        ASSERT_EQ(replayed.sample(row).token, got);
      }
      text.push_back(got);
    }
  }
}

TEST(Sampler, SeedsDecide) {
  const std::vector<float> flat(1000, 0.0F);
  const auto text = [&](std::optional<uint64_t> seed) {
    SamplingParams params;
    params.temperature = 1;
    params.seed = seed;
    Sampler sampler(params, 1000, {}, {});
    std::vector<int32_t> tokens;
    for (int step = 0; step < 12; ++step) {
      std::vector<float> logits = flat;
      tokens.push_back(sampler.sample(logits).token);
    }
    return tokens;
  };
  EXPECT_EQ(text(5), text(5));
  EXPECT_NE(text(5), text(6));
  EXPECT_NE(text(5), text(uint64_t{5} << 32));
  EXPECT_NE(text(std::nullopt), text(std::nullopt));  // equal by chance: 1e-36
}

}  // namespace
}  // namespace foveal::sampler

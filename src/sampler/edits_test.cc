// What the device is told of a request's rules: applied here one by one, in its order, it must be
// what the rules themselves do.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

#include "sampler/rules.h"

namespace foveal::sampler {
namespace {

using kernels::cuda::LogitEdit;
using kernels::cuda::SampleRow;

constexpr float kBanned = -std::numeric_limits<float>::infinity();
constexpr int32_t kVocab = 50;

float edited(float logit, const LogitEdit& edit, const SampleRow& row) {
  if ((edit.what & LogitEdit::kBias) != 0 && logit != kBanned) {
    logit = static_cast<float>(logit + edit.bias);
  }
  if ((edit.what & LogitEdit::kBan) != 0) logit = kBanned;
  if ((edit.what & LogitEdit::kPenalise) == 0 || logit == kBanned) return logit;
  double value = logit > 0 ? logit / row.repetition : logit * row.repetition;
  value -= row.frequency * static_cast<double>(edit.generated);
  if (edit.generated > 0) value -= row.presence;
  return static_cast<float>(value);
}

TEST(Edits, AreTheRules) {
  SamplingParams params;
  params.repetition_penalty = 1.3;
  params.presence_penalty = 0.5;
  params.frequency_penalty = 0.25;
  params.min_tokens = 3;
  params.max_tokens = 10;
  params.stop_token_ids = {4, 7};
  params.bad_words = {{5}, {1, 2}, {2, 7}};
  params.logit_bias = {{7, 2.5}, {9, -3}, {5, 1}};
  const std::vector<int32_t> prompt{1, 2, 9, 1};
  LogitRules rules(params, kVocab, prompt, std::vector<int32_t>{3});
  std::mt19937 rng(5);
  std::normal_distribution<float> normal(0, 3);
  for (const int32_t token : {2, 7, 7, 9, 30}) {
    std::vector<float> expected(kVocab);
    std::generate(expected.begin(), expected.end(), [&] { return normal(rng); });
    expected[9] = kBanned;
    std::vector<float> got = expected;
    rules.apply(expected);
    SampleRow row;
    std::vector<LogitEdit> edits{{.token = 0}};  // another row's
    rules.describe(row);
    rules.append_edits(edits);
    for (size_t idx = 1; idx < edits.size(); ++idx) {
      if (idx > 1) {
        EXPECT_GT(edits[idx].token, edits[idx - 1].token) << "one edit a token";
      }
      float& logit = got[static_cast<size_t>(edits[idx].token)];
      logit = edited(logit, edits[idx], row);
    }
    EXPECT_EQ(got, expected);
    rules.accept(token);
    EXPECT_EQ(edits.front().token, 0);
  }
}

TEST(Edits, AreNoneWithoutRules) {
  LogitRules rules({}, kVocab, {}, {});
  std::vector<LogitEdit> edits;
  rules.append_edits(edits);
  EXPECT_TRUE(edits.empty());
  rules.accept(4);
  SampleRow row;
  rules.describe(row);
  EXPECT_EQ(row.index, 1U);
}

}  // namespace
}  // namespace foveal::sampler

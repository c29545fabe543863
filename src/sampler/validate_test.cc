#include <gtest/gtest.h>

#include <functional>
#include <limits>
#include <string>

#include "foveal/error.h"
#include "sampler/sampler.h"

namespace foveal::sampler {
namespace {

constexpr int32_t kVocab = 100;
constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

using Edit = std::function<void(SamplingParams&)>;

/// The error's text, or "" when there is none.
std::string refusal(const Edit& edit) {
  SamplingParams params;
  edit(params);
  try {
    validate(params, kVocab);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kInvalidArgument);
    return error.what();
  }
  return "";
}

void refuses(const std::string& field, const Edit& edit) {
  const std::string text = refusal(edit);
  EXPECT_EQ(text.rfind("[sampling." + field + "] got ", 0), 0U) << "'" << text << "'";
  EXPECT_NE(text.find("; need "), std::string::npos) << text;
}

TEST(Validate, AcceptsDefaultsAndEdges) {
  EXPECT_EQ(refusal([](SamplingParams&) {}), "");
  EXPECT_EQ(refusal([](SamplingParams& p) {
              p.max_tokens = p.min_tokens = 0;
              p.temperature = 1e300;
              p.top_k = std::numeric_limits<int64_t>::max();
              p.top_p = 1e-300;
              p.min_p = 1;
              p.repetition_penalty = 1e-300;
              p.presence_penalty = -2;
              p.frequency_penalty = 2;
              p.seed = std::numeric_limits<uint64_t>::max();
              p.logprobs = 20;
              p.prompt_logprobs = 0;
              p.stop = {"x"};
              p.stop_token_ids = {0, kVocab - 1};
              p.bad_words = {{0}, {kVocab - 1, 3}};
              p.logit_bias = {{0, -100}, {kVocab - 1, 100}};
            }),
            "");
}

TEST(Validate, RefusesEveryFieldOutOfRange) {
  refuses("max_tokens", [](SamplingParams& p) { p.max_tokens = -1; });
  for (const double bad : {-1e-9, kInf, -kInf, kNan}) {
    refuses("temperature", [&](SamplingParams& p) { p.temperature = bad; });
  }
  refuses("top_k", [](SamplingParams& p) { p.top_k = -1; });
  for (const double bad : {0.0, -0.5, 1.0001, kInf, kNan}) {
    refuses("top_p", [&](SamplingParams& p) { p.top_p = bad; });
  }
  for (const double bad : {-0.1, 1.0001, kInf, kNan}) {
    refuses("min_p", [&](SamplingParams& p) { p.min_p = bad; });
  }
  for (const double bad : {0.0, -1.0, kInf, kNan}) {
    refuses("repetition_penalty", [&](SamplingParams& p) { p.repetition_penalty = bad; });
  }
  for (const double bad : {-2.001, 2.001, kInf, kNan}) {
    refuses("presence_penalty", [&](SamplingParams& p) { p.presence_penalty = bad; });
    refuses("frequency_penalty", [&](SamplingParams& p) { p.frequency_penalty = bad; });
  }
  for (const int64_t bad : {int64_t{-1}, int64_t{21}}) {
    refuses("logprobs", [&](SamplingParams& p) { p.logprobs = bad; });
    refuses("prompt_logprobs", [&](SamplingParams& p) { p.prompt_logprobs = bad; });
  }
  refuses("stop", [](SamplingParams& p) { p.stop = {"a", ""}; });
  refuses("min_tokens", [](SamplingParams& p) { p.min_tokens = -1; });
  refuses("min_tokens", [](SamplingParams& p) { p.min_tokens = p.max_tokens + 1; });
  refuses("bad_words", [](SamplingParams& p) { p.bad_words = {{1}, {}}; });
  for (const int32_t bad : {-1, kVocab, std::numeric_limits<int32_t>::min()}) {
    refuses("stop_token_ids", [&](SamplingParams& p) { p.stop_token_ids = {1, bad}; });
    refuses("bad_words", [&](SamplingParams& p) { p.bad_words = {{1, bad}}; });
    refuses("logit_bias", [&](SamplingParams& p) { p.logit_bias = {{bad, 1.0}}; });
  }
  for (const double bad : {-100.5, 101.0, kInf, kNan}) {
    refuses("logit_bias", [&](SamplingParams& p) { p.logit_bias = {{3, bad}}; });
  }
}

TEST(Validate, NamesTheFirstBadFieldWithItsValue) {
  const std::string text = refusal([](SamplingParams& p) {
    p.top_p = 1.5;
    p.min_p = -1;
  });
  EXPECT_EQ(text, "[sampling.top_p] got 1.5; need above 0, at most 1");
}

TEST(Validate, TheConstructorValidates) {
  SamplingParams params;
  params.top_p = kNan;
  EXPECT_THROW(Sampler(params, kVocab, {}, {}), Error);
  EXPECT_THROW(Sampler(SamplingParams{}, 0, {}, {}), Error);
}

}  // namespace
}  // namespace foveal::sampler

#include <cmath>
#include <limits>
#include <string>

#include "base/check.h"
#include "sampler/sampler.h"

namespace foveal::sampler {
namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();

/// NaN fails every range because it fails every comparison.
void need(bool good, const char* field, const auto& got, const char* range) {
  FOVEAL_CHECK(good, ErrorKind::kInvalidArgument, std::string("sampling.") + field,
               "got {}; need {}", got, range);
}

void need_token(int32_t token, int32_t vocab_size, const char* field) {
  FOVEAL_CHECK(token >= 0 && token < vocab_size, ErrorKind::kInvalidArgument,
               std::string("sampling.") + field, "got token {}; need 0 to {}", token,
               vocab_size - 1);
}

void need_logprobs(const std::optional<int64_t>& count, const char* field) {
  if (count) need(*count >= 0 && *count <= 20, field, *count, "0 to 20");
}

void validate_scalars(const SamplingParams& params) {
  need(params.max_tokens >= 0, "max_tokens", params.max_tokens, "0 or more");
  need(params.n >= 1 && params.n <= 128, "n", params.n, "1 to 128");
  need(params.temperature >= 0 && params.temperature < kInf, "temperature", params.temperature,
       "a finite number of at least 0");
  need(params.top_k >= 0, "top_k", params.top_k, "0 (off) or more");
  need(params.top_p > 0 && params.top_p <= 1, "top_p", params.top_p, "above 0, at most 1");
  need(params.min_p >= 0 && params.min_p <= 1, "min_p", params.min_p, "0 to 1");
  need(params.repetition_penalty > 0 && params.repetition_penalty < kInf, "repetition_penalty",
       params.repetition_penalty, "a finite number above 0");
  need(std::abs(params.presence_penalty) <= 2, "presence_penalty", params.presence_penalty,
       "-2 to 2");
  need(std::abs(params.frequency_penalty) <= 2, "frequency_penalty", params.frequency_penalty,
       "-2 to 2");
  need_logprobs(params.logprobs, "logprobs");
  need_logprobs(params.prompt_logprobs, "prompt_logprobs");
}

}  // namespace

void validate(const SamplingParams& params, int32_t vocab_size) {
  FOVEAL_CHECK(vocab_size > 0, ErrorKind::kInternal, "sampling",
               "got vocab_size {}; need 1 or more", vocab_size);
  validate_scalars(params);
  for (const std::string& stop : params.stop) {
    need(!stop.empty(), "stop", "an empty string", "strings of at least one byte");
  }
  for (const int32_t token : params.stop_token_ids) need_token(token, vocab_size, "stop_token_ids");
  need(params.min_tokens >= 0 && params.min_tokens <= params.max_tokens, "min_tokens",
       params.min_tokens, "0 to max_tokens");
  for (const std::vector<int32_t>& word : params.bad_words) {
    need(!word.empty(), "bad_words", "an empty sequence", "sequences of at least one token");
    for (const int32_t token : word) need_token(token, vocab_size, "bad_words");
  }
  for (const std::string& text : params.bad) {
    need(!text.empty(), "bad", "an empty string", "strings of at least one byte");
  }
  for (const auto& [token, bias] : params.logit_bias) {
    need_token(token, vocab_size, "logit_bias");
    need(std::abs(bias) <= 100, "logit_bias", bias, "-100 to 100");
  }
}

}  // namespace foveal::sampler

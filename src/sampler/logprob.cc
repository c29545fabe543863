#include <algorithm>
#include <limits>

#include "base/check.h"
#include "kernels/elementwise.h"
#include "kernels/topk.h"
#include "sampler/logprob.h"
#include "sampler/sampler.h"

namespace foveal::sampler {

void check_logits(std::span<const float> logits) {
  constexpr float kInf = std::numeric_limits<float>::infinity();
  int bad = 0;
  int finite = 0;
  for (const float logit : logits) {
    bad |= logit < kInf ? 0 : 1;  // NaN too
    finite |= logit > -kInf ? 1 : 0;
  }
  if (bad != 0) {
    const auto at = std::find_if(logits.begin(), logits.end(), [](float x) { return !(x < kInf); });
    fail(ErrorKind::kInternal, "sampling",
         "got logit {} for token {}; need a number below infinity", *at, at - logits.begin());
  }
  FOVEAL_CHECK(finite != 0, ErrorKind::kInternal, "sampling",
               "got -inf for all {} logits; need a finite one", logits.size());
}

double log_sum_exp(std::span<const float> logits) {
  return kernels::log_sum_exp(logits.data(), static_cast<int64_t>(logits.size()));
}

TokenLogprob token_logprob(std::span<const float> logits, int32_t token, double normalizer) {
  const float own = logits[static_cast<size_t>(token)];
  int32_t better = 0;
  for (const float logit : logits) better += logit > own ? 1 : 0;
  for (const float logit : logits.first(static_cast<size_t>(token))) better += logit == own ? 1 : 0;
  return {token, static_cast<float>(own - normalizer), better + 1};
}

std::vector<TokenLogprob> top_logprobs(std::span<const float> logits, int32_t top,
                                       double normalizer) {
  std::vector<TokenLogprob> out;
  const auto size = static_cast<int64_t>(logits.size());
  for (const int32_t token : kernels::top_k(logits, std::min<int64_t>(top, size))) {
    const float own = logits[static_cast<size_t>(token)];
    out.push_back(
        {token, static_cast<float>(own - normalizer), static_cast<int32_t>(out.size()) + 1});
  }
  return out;
}

TokenLogprob token_logprob(std::span<const float> logits, int32_t token) {
  FOVEAL_CHECK(token >= 0 && static_cast<size_t>(token) < logits.size(),
               ErrorKind::kInvalidArgument, "logprobs", "got token {}; need 0 to {}", token,
               static_cast<int64_t>(logits.size()) - 1);
  check_logits(logits);
  return token_logprob(logits, token, log_sum_exp(logits));
}

std::vector<TokenLogprob> top_logprobs(std::span<const float> logits, int32_t top) {
  FOVEAL_CHECK(top >= 0, ErrorKind::kInvalidArgument, "logprobs", "got {}; need 0 or more", top);
  if (top == 0) return {};
  check_logits(logits);
  return top_logprobs(logits, top, log_sum_exp(logits));
}

}  // namespace foveal::sampler

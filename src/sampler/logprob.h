#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "foveal/request.h"

namespace foveal::sampler {

/// Throws kInternal for a NaN, a +inf, or -inf everywhere: a model's fault, never a request's.
void check_logits(std::span<const float> logits);

/// Within 2e-6. `logits` must pass `check_logits`.
double log_sum_exp(std::span<const float> logits);

/// The public functions of the same names, for a normalizer = log_sum_exp that is known already.
TokenLogprob token_logprob(std::span<const float> logits, int32_t token, double normalizer);
std::vector<TokenLogprob> top_logprobs(std::span<const float> logits, int32_t top,
                                       double normalizer);

}  // namespace foveal::sampler

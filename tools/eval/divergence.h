#pragma once

#include <cstdint>
#include <span>

namespace foveal::eval {

/// Kullback-Leibler divergence KL(p || q) in nats of the softmax of two rows of logits, sums in
/// double. Exactly 0 for equal rows. Logits of -inf have no weight in p.
double divergence(std::span<const float> p, std::span<const float> q);

/// Index of the best logit; ties go to the lower one.
int64_t best(std::span<const float> logits);

}  // namespace foveal::eval

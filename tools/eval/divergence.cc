#include "eval/divergence.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"

namespace foveal::eval {
namespace {

double log_sum(std::span<const float> logits) {
  const double most = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float logit : logits) sum += std::exp(double{logit} - most);
  return most + std::log(sum);
}

}  // namespace

double divergence(std::span<const float> p, std::span<const float> q) {
  FOVEAL_INVARIANT(p.size() == q.size() && !p.empty());
  const double p_sum = log_sum(p);
  const double q_sum = log_sum(q);
  double out = 0;
  for (size_t at = 0; at < p.size(); ++at) {
    const double log_p = double{p[at]} - p_sum;
    const double weight = std::exp(log_p);
    if (weight > 0) out += weight * (log_p - (double{q[at]} - q_sum));
  }
  return out;
}

int64_t best(std::span<const float> logits) {
  return std::max_element(logits.begin(), logits.end()) - logits.begin();
}

}  // namespace foveal::eval

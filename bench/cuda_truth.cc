#include "cuda_truth.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "base/half.h"

namespace foveal::bench {
namespace {

std::vector<double> scores_of(const TruthCall& call) {
  std::vector<double> out(static_cast<size_t>(call.num_keys));
  for (int32_t idx = 0; idx < call.num_keys; ++idx) {
    const uint16_t* key = call.key(idx);
    double sum = 0;
    for (size_t at = 0; at < call.q.size(); ++at) {
      sum += double{bf16_to_float(call.q[at])} * double{bf16_to_float(key[at])};
    }
    out[static_cast<size_t>(idx)] = sum * call.scale;
  }
  return out;
}

}  // namespace

AttentionTruth attend(const TruthCall& call) {
  const std::vector<double> scores = scores_of(call);
  const double most = *std::max_element(scores.begin(), scores.end());
  AttentionTruth truth;
  truth.out.resize(static_cast<size_t>(call.value_dim));
  truth.magnitude.resize(truth.out.size());
  double total = 0;
  for (int32_t idx = 0; idx < call.num_keys; ++idx) {
    const double below = scores[static_cast<size_t>(idx)] - most;
    const double weight = std::exp(below);
    total += weight;
    if (below < call.log_threshold) truth.may_lose += weight;
    const uint16_t* value = call.value(idx);
    for (size_t at = 0; at < truth.out.size(); ++at) {
      const double v = bf16_to_float(value[at]);
      truth.out[at] += weight * v;
      truth.magnitude[at] += weight * std::fabs(v);
      truth.largest = std::max(truth.largest, std::fabs(v));
    }
  }
  truth.may_lose /= total;
  for (size_t at = 0; at < truth.out.size(); ++at) {
    truth.out[at] /= total;
    truth.magnitude[at] /= total;
  }
  return truth;
}

void expect_attention(std::string_view what, std::span<const uint16_t> got,
                      const AttentionTruth& truth) {
  FOVEAL_INVARIANT(got.size() == truth.out.size());
  for (size_t at = 0; at < got.size(); ++at) {
    const double rounding =
        0x1p-8 * (truth.magnitude[at] + std::fabs(truth.out[at])) + 0x1p-14 * truth.magnitude[at];
    expect_near(what, bf16_to_float(got[at]), truth.out[at],
                1.05 * rounding + 2 * truth.may_lose * truth.largest + 1e-6);
  }
}

void expect_near(std::string_view what, double got, double want, double allowed) {
  FOVEAL_CHECK(std::fabs(got - want) <= allowed, ErrorKind::kInternal, "bench",
               "got {} from {}; need {} within {}", got, what, want, allowed);
}

}  // namespace foveal::bench

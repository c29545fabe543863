#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "kernels/elementwise.h"

namespace foveal::kernels {
namespace {

/// Descending, ties to the lower index; NaN after everything, so that indices stay in range.
bool goes_before(const float* logits, int32_t later, int32_t earlier) {
  return logits[later] > logits[earlier] ||
         (std::isnan(logits[earlier]) && !std::isnan(logits[later]));
}

/// Insertion into a list of k: experts number tens to hundreds, k at most a few.
void choose(const float* logits, int32_t num_experts, int32_t k, int32_t* indices) {
  for (int32_t expert = 0; expert < num_experts; ++expert) {
    int32_t place = std::min(expert, k);
    while (place > 0 && goes_before(logits, expert, indices[place - 1])) --place;
    if (place == k) continue;
    for (int32_t idx = std::min(expert, k - 1); idx > place; --idx) indices[idx] = indices[idx - 1];
    indices[place] = expert;
  }
}

void route_row(const MoeRouteParams& params, int64_t row) {
  const float* logits = params.logits + row * params.num_experts;
  int32_t* indices = params.indices + row * params.k;
  float* weights = params.weights + row * params.k;
  choose(logits, params.num_experts, params.k, indices);
  const float max = logits[indices[0]];
  double sum = 0;
  for (int32_t idx = 0; idx < params.k; ++idx) {
    weights[idx] = std::exp(logits[indices[idx]] - max);
    sum += weights[idx];
  }
  if (!params.normalize) {
    sum = 0;
    for (int32_t expert = 0; expert < params.num_experts; ++expert) {
      sum += std::exp(logits[expert] - max);
    }
  }
  for (int32_t idx = 0; idx < params.k; ++idx) {
    weights[idx] = static_cast<float>(weights[idx] / sum);
  }
}

}  // namespace

void moe_route(const MoeRouteParams& params, Stream& stream) {
  FOVEAL_CHECK(stream.device().kind == DeviceKind::kCpu, ErrorKind::kUnsupported, "moe_route",
               "got device {}; need cpu", device_name(stream.device()));
  FOVEAL_CHECK(params.m >= 0 && params.k > 0 && params.k <= params.num_experts,
               ErrorKind::kInternal, "moe_route", "got {} rows, k {}; need k in 1 to {} (experts)",
               params.m, params.k, params.num_experts);
  // A row costs about a microsecond (one exponential an expert): worth sharing from some tens on.
  constexpr int64_t kRowsPerTask = 16;
  const int64_t tasks = (params.m + kRowsPerTask - 1) / kRowsPerTask;
  const auto work = [&](int64_t task, int) {
    const int64_t end = std::min(params.m, (task + 1) * kRowsPerTask);
    for (int64_t row = task * kRowsPerTask; row < end; ++row) route_row(params, row);
  };
  stream.pool().run(tasks, work);
}

}  // namespace foveal::kernels

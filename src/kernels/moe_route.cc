#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "base/check.h"
#include "kernels/elementwise.h"

namespace foveal::kernels {
namespace {

/// Descending, ties to the lower index; NaN after everything, so that indices stay in range.
bool goes_before(const float* scores, int32_t later, int32_t earlier) {
  return scores[later] > scores[earlier] ||
         (std::isnan(scores[earlier]) && !std::isnan(scores[later]));
}

/// Insertion into a list of k: experts number tens to hundreds, k at most a few.
void choose(const float* scores, int32_t count, int32_t k, int32_t* indices) {
  for (int32_t at = 0; at < count; ++at) {
    int32_t place = std::min(at, k);
    while (place > 0 && goes_before(scores, at, indices[place - 1])) --place;
    if (place == k) continue;
    for (int32_t idx = std::min(at, k - 1); idx > place; --idx) indices[idx] = indices[idx - 1];
    indices[place] = at;
  }
}

void softmax_row(const MoeRouteParams& params, const float* logits, int32_t* indices,
                 float* weights) {
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
    weights[idx] = static_cast<float>(weights[idx] / sum * params.scale);
  }
}

/// What rows of one task need beside their own: grown once.
struct RouteScratch {
  std::vector<float> scores;  ///< [num_experts]
  std::vector<float> choice;  ///< [num_experts]: score + bias, or -inf in a group that drops out
  std::vector<float> group_sums;  ///< [num_groups]
  std::vector<int32_t> groups;    ///< [topk_groups]
};

/// Sum of a group's two best; NaN where one is.
float best_two(const float* choice, int32_t count) {
  int32_t best[2];
  choose(choice, count, 2, best);
  const bool any_nan = std::any_of(choice, choice + count, [](float x) { return std::isnan(x); });
  return any_nan ? std::numeric_limits<float>::quiet_NaN() : choice[best[0]] + choice[best[1]];
}

void drop_groups(const MoeRouteParams& params, RouteScratch& scratch) {
  const int32_t size = params.num_experts / params.num_groups;
  for (int32_t group = 0; group < params.num_groups; ++group) {
    scratch.group_sums[static_cast<size_t>(group)] =
        best_two(scratch.choice.data() + group * size, size);
  }
  choose(scratch.group_sums.data(), params.num_groups, params.topk_groups, scratch.groups.data());
  for (int32_t group = 0; group < params.num_groups; ++group) {
    const auto& kept = scratch.groups;
    if (std::find(kept.begin(), kept.end(), group) != kept.end()) continue;
    std::fill_n(scratch.choice.begin() + group * size, size,
                -std::numeric_limits<float>::infinity());
  }
}

void sigmoid_row(const MoeRouteParams& params, const float* logits, RouteScratch& scratch,
                 int32_t* indices, float* weights) {
  for (int32_t expert = 0; expert < params.num_experts; ++expert) {
    const auto at = static_cast<size_t>(expert);
    scratch.scores[at] = 1.0F / (1.0F + std::exp(-logits[expert]));
    scratch.choice[at] = scratch.scores[at] + params.bias[expert];
  }
  if (params.num_groups > 1) drop_groups(params, scratch);
  choose(scratch.choice.data(), params.num_experts, params.k, indices);
  double sum = 1e-20;  // as in the reference: all scores may underflow
  for (int32_t idx = 0; idx < params.k; ++idx) {
    weights[idx] = scratch.scores[static_cast<size_t>(indices[idx])];
    sum += weights[idx];
  }
  const double factor = params.normalize ? params.scale / sum : params.scale;
  for (int32_t idx = 0; idx < params.k; ++idx) {
    weights[idx] = static_cast<float>(weights[idx] * factor);
  }
}

void check(const MoeRouteParams& params, const Stream& stream) {
  FOVEAL_CHECK(stream.device().kind == DeviceKind::kCpu, ErrorKind::kUnsupported, "moe_route",
               "got device {}; need cpu", device_name(stream.device()));
  FOVEAL_CHECK(params.m >= 0 && params.k > 0 && params.k <= params.num_experts,
               ErrorKind::kInternal, "moe_route", "got {} rows, k {}; need k in 1 to {} (experts)",
               params.m, params.k, params.num_experts);
  if (!params.sigmoid) return;
  const int32_t groups = params.num_groups;
  FOVEAL_CHECK(params.bias != nullptr && groups >= 1 && params.num_experts % groups == 0 &&
                   (groups == 1 || params.num_experts / groups >= 2) && params.topk_groups >= 1 &&
                   params.topk_groups <= groups &&
                   params.k <= params.num_experts / groups * params.topk_groups,
               ErrorKind::kInternal, "moe_route",
               "got {} of {} groups for {} of {} experts; need groups of 2 or more that hold them",
               params.topk_groups, groups, params.k, params.num_experts);
}

}  // namespace

void moe_route(const MoeRouteParams& params, Stream& stream) {
  check(params, stream);
  // A row costs about a microsecond (one exponential an expert): worth sharing from some tens on.
  constexpr int64_t kRowsPerTask = 16;
  const int64_t tasks = (params.m + kRowsPerTask - 1) / kRowsPerTask;
  const auto work = [&](int64_t task, int) {
    RouteScratch scratch;
    if (params.sigmoid) {
      const auto experts = static_cast<size_t>(params.num_experts);
      scratch = {.scores = std::vector<float>(experts),
                 .choice = std::vector<float>(experts),
                 .group_sums = std::vector<float>(static_cast<size_t>(params.num_groups)),
                 .groups = std::vector<int32_t>(static_cast<size_t>(params.topk_groups))};
    }
    const int64_t end = std::min(params.m, (task + 1) * kRowsPerTask);
    for (int64_t row = task * kRowsPerTask; row < end; ++row) {
      const float* logits = params.logits + row * params.num_experts;
      int32_t* indices = params.indices + row * params.k;
      float* weights = params.weights + row * params.k;
      if (params.sigmoid) {
        sigmoid_row(params, logits, scratch, indices, weights);
      } else {
        softmax_row(params, logits, indices, weights);
      }
    }
  };
  stream.pool().run(tasks, work);
}

}  // namespace foveal::kernels

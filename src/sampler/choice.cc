#include "sampler/choice.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <vector>

#include "base/check.h"
#include "kernels/topk.h"

namespace foveal::sampler {
namespace {

struct Candidate {
  int32_t token;
  float logit;
  double weight;  ///< probability over that of the best entry
};

/// How far below the best entry a logit is, in units of temperature.
struct Score {
  double max;
  double temperature;
  double operator()(float logit) const { return (max - double{logit}) / temperature; }
};

// Entries further down weigh less than e^-60 each, 2^31 of them less than 2^-55: below the step of
// the draw. So they can never be drawn, and need no exponential.
constexpr double kFarthest = 60;

bool goes_before(const Candidate& a, const Candidate& b) {
  return a.logit > b.logit || (a.logit == b.logit && a.token < b.token);
}

double total_weight(std::span<const Candidate> candidates) {
  double total = 0;
  for (const Candidate& candidate : candidates) total += candidate.weight;
  return total;
}

/// Length of the shortest prefix of sorted candidates that weighs at least `goal`.
size_t prefix_reaching(std::span<const Candidate> sorted, double goal) {
  double sum = 0;
  for (size_t len = 1; len <= sorted.size(); ++len) {
    sum += sorted[len - 1].weight;
    if (sum >= goal) return len;
  }
  return sorted.size();
}

/// The `k` best of all logits.
void gather_best(std::span<const float> logits, const Score& score, int64_t k,
                 std::vector<Candidate>& out) {
  for (const int32_t token : kernels::top_k(logits, k)) {
    const float logit = logits[static_cast<size_t>(token)];
    if (const double far = score(logit); far <= kFarthest) {
      out.push_back({token, logit, std::exp(-far)});
    }
  }
}

void gather_all(std::span<const float> logits, const Score& score, std::vector<Candidate>& out) {
  for (size_t idx = 0; idx < logits.size(); ++idx) {
    if (const double far = score(logits[idx]); far <= kFarthest) {
      out.push_back({static_cast<int32_t>(idx), logits[idx], std::exp(-far)});
    }
  }
}

/// Keeps the nucleus without sorting it: a histogram of weight over score (a monotone function of
/// the logit) finds the one narrow bucket where the share is reached; only that one is sorted.
void keep_nucleus(const Score& score, double top_p, std::vector<Candidate>& candidates) {
  constexpr size_t kBuckets = 4096;
  const auto bucket_of = [&](const Candidate& candidate) {
    return static_cast<size_t>(score(candidate.logit) * ((kBuckets - 1) / kFarthest));
  };
  std::array<double, kBuckets> weight{};
  for (const Candidate& candidate : candidates) weight[bucket_of(candidate)] += candidate.weight;
  double total = 0;
  for (const double part : weight) total += part;
  double goal = top_p * total;
  size_t last = 0;
  for (; last + 1 < kBuckets && weight[last] < goal; ++last) goal -= weight[last];
  const auto edge = std::stable_partition(
      candidates.begin(), candidates.end(),
      [&](const Candidate& candidate) { return bucket_of(candidate) < last; });
  const auto end = std::partition(edge, candidates.end(), [&](const Candidate& candidate) {
    return bucket_of(candidate) == last;
  });
  std::sort(edge, end, goes_before);
  const size_t taken = prefix_reaching({edge, end}, goal);
  candidates.erase(edge + static_cast<ptrdiff_t>(taken), candidates.end());
}

/// The kept candidates, in order of id.
void filter(std::span<const float> logits, const Filters& filters, const Score& score,
            std::vector<Candidate>& candidates) {
  const auto size = static_cast<int64_t>(logits.size());
  candidates.clear();
  if (filters.top_k > 0 && filters.top_k < size) {
    gather_best(logits, score, filters.top_k, candidates);
  } else {
    gather_all(logits, score, candidates);
  }
  if (filters.top_p < 1) keep_nucleus(score, filters.top_p, candidates);
  std::erase_if(candidates,
                [&](const Candidate& candidate) { return candidate.weight < filters.min_p; });
  if (filters.top_k > 0 || filters.top_p < 1) {
    std::sort(candidates.begin(), candidates.end(),
              [](const Candidate& a, const Candidate& b) { return a.token < b.token; });
  }
}

}  // namespace

int32_t argmax(std::span<const float> logits) {
  const int32_t best = kernels::top_k(logits, 1).at(0);
  FOVEAL_CHECK(
      logits[static_cast<size_t>(best)] > -std::numeric_limits<float>::infinity(),
      ErrorKind::kInvalidArgument, "sampling",
      "got a ban of every token; need bad_words, stop tokens and min_tokens that leave one");
  return best;
}

int32_t choose(std::span<const float> logits, const Filters& filters, double u) {
  const int32_t best = argmax(logits);
  const Score score{logits[static_cast<size_t>(best)], filters.temperature};
  // Megabytes for a large vocabulary: kept from step to step, shared by all requests of a thread.
  thread_local std::vector<Candidate> candidates;
  filter(logits, filters, score, candidates);
  const double goal = u * total_weight(candidates);
  double sum = 0;
  for (const Candidate& candidate : candidates) {
    sum += candidate.weight;
    if (sum > goal) return candidate.token;
  }
  return candidates.back().token;
}

}  // namespace foveal::sampler

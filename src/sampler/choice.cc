#include "sampler/choice.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <iterator>
#include <limits>
#include <numeric>
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

/// The `k` best of all logits, in order of id.
void gather_best(std::span<const float> logits, const Score& score, int64_t k,
                 std::vector<Candidate>& out) {
  std::vector<int32_t> best = kernels::top_k(logits, k);
  std::sort(best.begin(), best.end());
  for (const int32_t token : best) {
    const float logit = logits[static_cast<size_t>(token)];
    if (const double far = score(logit); far <= kFarthest) {
      out.push_back({token, logit, std::exp(-far)});
    }
  }
}

void gather_all(std::span<const float> logits, const Score& score, double farthest,
                std::vector<Candidate>& out) {
  for (size_t idx = 0; idx < logits.size(); ++idx) {
    if (const double far = score(logits[idx]); far <= farthest) {
      out.push_back({static_cast<int32_t>(idx), logits[idx], std::exp(-far)});
    }
  }
}

/// The last candidate of the nucleus, without sorting it: a histogram of weight over score (a
/// monotone function of the logit) finds the one narrow bucket where the share is reached, and only
/// that one is sorted.
Candidate last_of_nucleus(const Score& score, double top_p, std::span<const Candidate> candidates) {
  constexpr size_t kBuckets = 4096;
  const auto bucket_of = [&](const Candidate& candidate) {
    return static_cast<size_t>(score(candidate.logit) * ((kBuckets - 1) / kFarthest));
  };
  std::array<double, kBuckets> weight{};
  size_t lightest = 0;
  for (const Candidate& candidate : candidates) {
    const size_t bucket = bucket_of(candidate);
    weight[bucket] += candidate.weight;
    lightest = std::max(lightest, bucket);
  }
  // Never at an empty bucket: what is left of the goal stays above 0.
  double goal = top_p * std::accumulate(weight.begin(), weight.end(), 0.0);
  size_t edge = 0;
  for (; edge < lightest && weight[edge] < goal; ++edge) goal -= weight[edge];
  std::vector<Candidate> members;
  std::copy_if(candidates.begin(), candidates.end(), std::back_inserter(members),
               [&](const Candidate& candidate) { return bucket_of(candidate) == edge; });
  std::sort(members.begin(), members.end(), goes_before);
  return members[prefix_reaching(members, goal) - 1];
}

/// The kept candidates, in order of id.
void filter(std::span<const float> logits, const Filters& filters, const Score& score,
            std::vector<Candidate>& candidates) {
  candidates.clear();
  if (filters.top_k > 0 && filters.top_k < static_cast<int64_t>(logits.size())) {
    gather_best(logits, score, filters.top_k, candidates);
  } else {
    // Without top_p, which needs the whole sum, what min_p takes out need not be weighed; the slack
    // is for rounding, the exact rule is below.
    const bool early = filters.top_p == 1 && filters.min_p > 0;
    const double farthest = early ? 1e-6 - std::log(filters.min_p) : kFarthest;
    gather_all(logits, score, std::min(farthest, kFarthest), candidates);
  }
  if (filters.top_p < 1) {
    const Candidate last = last_of_nucleus(score, filters.top_p, candidates);
    std::erase_if(candidates, [&](const Candidate& c) { return goes_before(last, c); });
  }
  std::erase_if(candidates, [&](const Candidate& c) { return c.weight < filters.min_p; });
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

#include "measure/statistics.h"

#include <algorithm>
#include <boost/math/distributions/students_t.hpp>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/check.h"
#include "measure/random.h"

namespace foveal::measure {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr int kResamples = 4000;

// Of `estimate(indices)` over resampled indices in [0, count).
template <class Estimate>
Interval bootstrap(size_t count, uint64_t seed, const Estimate& estimate) {
  if (count < 2) return {kNan, kNan};
  std::vector<size_t> indices(count);
  std::iota(indices.begin(), indices.end(), size_t{0});
  const double center = estimate(indices);
  const double stretch = std::sqrt(static_cast<double>(count) / static_cast<double>(count - 1));
  Random random(seed, "bootstrap");
  std::vector<double> estimates(kResamples);
  for (double& value : estimates) {
    for (size_t& index : indices) index = random.below(count);
    value = center + stretch * (estimate(indices) - center);
  }
  return {percentile(estimates, 0.025), percentile(estimates, 0.975)};
}

double mean_of(std::span<const Unit> units, const std::vector<size_t>& indices) {
  Unit total;
  for (const size_t index : indices) {
    total.sum += units[index].sum;
    total.count += units[index].count;
  }
  return total.sum / total.count;
}

}  // namespace

double mean(std::span<const Unit> units) {
  Unit total;
  for (const Unit& unit : units) {
    total.sum += unit.sum;
    total.count += unit.count;
  }
  return total.count > 0 ? total.sum / total.count : kNan;
}

Interval paired_interval(std::span<const Unit> baseline, std::span<const Unit> tested,
                         Transform transform, uint64_t seed) {
  FOVEAL_INVARIANT(baseline.size() == tested.size());
  return bootstrap(baseline.size(), seed, [&](const std::vector<size_t>& indices) {
    return transform(mean_of(tested, indices)) - transform(mean_of(baseline, indices));
  });
}

Interval interval(std::span<const Unit> units, Transform transform, uint64_t seed) {
  return bootstrap(units.size(), seed, [&](const std::vector<size_t>& indices) {
    return transform(mean_of(units, indices));
  });
}

Interval student_interval(std::span<const double> values, double confidence) {
  if (values.size() < 2) return {kNan, kNan};
  const double center = average(values);
  double squares = 0;
  for (const double value : values) squares += (value - center) * (value - center);
  const auto count = static_cast<double>(values.size());
  const boost::math::students_t distribution(count - 1);
  const double reach = boost::math::quantile(distribution, (1 + confidence) / 2) *
                       std::sqrt(squares / (count - 1) / count);
  return {center - reach, center + reach};
}

double percentile(std::span<const double> values, double share) {
  if (values.empty()) return kNan;
  std::vector<double> sorted(values.begin(), values.end());
  std::sort(sorted.begin(), sorted.end());
  const double at = share * static_cast<double>(sorted.size() - 1);
  const auto low = static_cast<size_t>(at);
  const size_t high = std::min(low + 1, sorted.size() - 1);
  return sorted[low] + (at - static_cast<double>(low)) * (sorted[high] - sorted[low]);
}

double average(std::span<const double> values) {
  if (values.empty()) return kNan;
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

}  // namespace foveal::measure

#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

namespace foveal::measure {

/// What is resampled as a whole: one answer's score, or the sum over a block of neighbouring
/// predictions.
struct Unit {
  double sum = 0;
  double count = 0;
  bool operator==(const Unit&) const = default;
};

/// Sum of sums over sum of counts; NaN for nothing.
double mean(std::span<const Unit> units);

struct Interval {
  double low = 0;
  double high = 0;
};

/// What a mean is reported as: itself, or its exponential (perplexity of a mean loss).
using Transform = double (*)(double);

/// 95 % interval of transform(mean(tested)) - transform(mean(baseline)), units paired by index:
/// percentile bootstrap over pairs, stretched by sqrt(n / (n - 1)) about the estimate, for it is
/// too narrow by that much. NaN for fewer than two pairs.
Interval paired_interval(std::span<const Unit> baseline, std::span<const Unit> tested,
                         Transform transform, uint64_t seed);

/// 95 % interval of transform(mean(units)), likewise.
Interval interval(std::span<const Unit> units, Transform transform, uint64_t seed);

/// Student's interval of the mean of values, which should be about normal. NaN for fewer than two.
Interval student_interval(std::span<const double> values, double confidence);

/// Of values in any order, linear between neighbours as numpy's default. `share` in [0, 1]. NaN for
/// nothing.
double percentile(std::span<const double> values, double share);
double average(std::span<const double> values);

}  // namespace foveal::measure

#pragma once

#include <span>
#include <string_view>

#include "measure/statistics.h"

namespace foveal::bench {

/// Two series measured in turns, a round a pair: times, lower is better.
struct Comparison {
  double ratio = 1;            ///< tested over baseline, geometric mean over rounds
  measure::Interval interval;  ///< 99 %, of that ratio
  std::string_view verdict;    ///< faster, slower, or no difference shown
};

/// Student's interval of the mean log ratio: 99 % because a comparison that is often repeated must
/// not cry wolf. At least two pairs of positive times.
Comparison compare(std::span<const double> baseline, std::span<const double> tested);

}  // namespace foveal::bench

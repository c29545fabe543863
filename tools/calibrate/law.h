#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace foveal::calibrate {

/// What one threshold scale factor left out of texts of one length.
struct Point {
  double factor = 0;
  double sparsity = 0;
  int64_t length = 0;
};

/// How a factor follows from a target, as a checkpoint carries it.
struct Law {
  std::string formula;  ///< of `target_sparsity` and the coefficients
  std::vector<std::pair<std::string, double>> coefficients;
  double error = 0;  ///< root mean square of achieved minus target over the points it was fitted to
  double least = 0;  ///< sparsity that was observed: outside it extrapolates
  double most = 0;

  double factor(double target) const;
};

/// a * exp(b * s), the published law. Least squares in log(factor), for in the factor itself the
/// points near s = 1 would outweigh all others; each tenth of sparsity has the same weight. Nothing
/// with fewer than three points of different sparsity between 0.02 and 0.98.
std::optional<Law> fit_exponential(std::span<const Point> points);

/// a * exp(b * s) * (s / (1 - s)) ** c: also right where little is left out. Four points.
std::optional<Law> fit_three(std::span<const Point> points);

/// -log(1 - factor / L) = a * (s / (1 - s)) ** b / L ** c: with a length exponent of its own, which
/// no checkpoint can carry; its error tells what ignoring the length costs. Nothing where all
/// points have one length.
std::optional<double> error_with_length(std::span<const Point> points);

}  // namespace foveal::calibrate

#include "calibrate/law.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <set>

#include "base/check.h"

namespace foveal::calibrate {
namespace {

// Beyond these a share says more about the text than about the factor.
constexpr double kLeast = 0.02;
constexpr double kMost = 0.98;
constexpr size_t kTerms = 3;

using Row = std::array<double, kTerms>;

std::vector<Point> usable(std::span<const Point> points) {
  std::vector<Point> out;
  std::copy_if(points.begin(), points.end(), std::back_inserter(out), [](const Point& point) {
    return point.factor > 0 && point.sparsity >= kLeast && point.sparsity <= kMost;
  });
  return out;
}

std::vector<double> weights(const std::vector<Point>& points) {
  const auto tenth = [](const Point& point) { return static_cast<size_t>(point.sparsity * 10); };
  std::array<int, 10> crowd{};
  for (const Point& point : points) crowd[tenth(point)] += 1;
  std::vector<double> out;
  for (const Point& point : points) out.push_back(1.0 / crowd[tenth(point)]);
  return out;
}

double logit(double share) { return std::log(share / (1 - share)); }

// Weighted least squares of y over the first `terms` columns, by Gauss elimination of the normal
// equations. Nothing where they are singular.
std::optional<Row> solve(const std::vector<Row>& rows, const std::vector<double>& y,
                         const std::vector<double>& weight, size_t terms) {
  std::array<std::array<double, kTerms + 1>, kTerms> matrix{};
  for (size_t at = 0; at < rows.size(); ++at) {
    for (size_t row = 0; row < terms; ++row) {
      for (size_t col = 0; col < terms; ++col) {
        matrix[row][col] += weight[at] * rows[at][row] * rows[at][col];
      }
      matrix[row][terms] += weight[at] * rows[at][row] * y[at];
    }
  }
  for (size_t pivot = 0; pivot < terms; ++pivot) {
    size_t best = pivot;
    for (size_t row = pivot + 1; row < terms; ++row) {
      if (std::abs(matrix[row][pivot]) > std::abs(matrix[best][pivot])) best = row;
    }
    std::swap(matrix[pivot], matrix[best]);
    if (std::abs(matrix[pivot][pivot]) < 1e-9) return std::nullopt;
    for (size_t row = 0; row < terms; ++row) {
      if (row == pivot) continue;
      const double times = matrix[row][pivot] / matrix[pivot][pivot];
      for (size_t col = pivot; col <= terms; ++col) matrix[row][col] -= times * matrix[pivot][col];
    }
  }
  Row out{};
  for (size_t row = 0; row < terms; ++row) out[row] = matrix[row][terms] / matrix[row][row];
  return out;
}

// The sparsity at which a rising function reaches `wanted`.
double inverse(const std::function<double(double)>& rising, double wanted) {
  double low = 1e-6;
  double high = 1 - 1e-6;
  for (int step = 0; step < 50; ++step) {
    const double middle = (low + high) / 2;
    (rising(middle) < wanted ? low : high) = middle;
  }
  return (low + high) / 2;
}

double rms_error(const std::vector<Point>& points, const std::vector<double>& weight,
                 const std::function<double(const Point&)>& predicted) {
  double sum = 0;
  double total = 0;
  for (size_t at = 0; at < points.size(); ++at) {
    const double off = predicted(points[at]) - points[at].sparsity;
    sum += weight[at] * off * off;
    total += weight[at];
  }
  return std::sqrt(sum / total);
}

std::optional<Law> fit(std::span<const Point> points, size_t terms, std::string formula) {
  const std::vector<Point> good = usable(points);
  std::set<double> different;
  for (const Point& point : good) different.insert(point.sparsity);
  if (different.size() <= terms) return std::nullopt;
  const std::vector<double> weight = weights(good);
  std::vector<Row> rows;
  std::vector<double> y;
  for (const Point& point : good) {
    rows.push_back({1, point.sparsity, logit(point.sparsity)});
    y.push_back(std::log(point.factor));
  }
  const std::optional<Row> found = solve(rows, y, weight, terms);
  if (!found) return std::nullopt;
  Law law{.formula = std::move(formula),
          .coefficients = {{"a", std::exp((*found)[0])}, {"b", (*found)[1]}},
          .least = *different.begin(),
          .most = *different.rbegin()};
  if (terms == 3) law.coefficients.emplace_back("c", (*found)[2]);
  // A factor that falls with the target would be no law.
  constexpr int kSteps = 100;
  double last = 0;
  for (int step = 0; step <= kSteps; ++step) {
    const double now = law.factor(law.least + (law.most - law.least) * step / kSteps);
    if (now <= last) return std::nullopt;
    last = now;
  }
  law.error = rms_error(good, weight, [&](const Point& point) {
    return inverse([&](double target) { return law.factor(target); }, point.factor);
  });
  return law;
}

}  // namespace

double Law::factor(double target) const {
  double out = coefficients[0].second * std::exp(coefficients[1].second * target);
  if (coefficients.size() == 3) out *= std::pow(target / (1 - target), coefficients[2].second);
  return out;
}

std::optional<Law> fit_exponential(std::span<const Point> points) {
  return fit(points, 2, "a * exp(b * target_sparsity)");
}

std::optional<Law> fit_three(std::span<const Point> points) {
  return fit(points, 3,
             "a * exp(b * target_sparsity) * (target_sparsity / (1 - target_sparsity)) ** c");
}

std::optional<double> error_with_length(std::span<const Point> points) {
  std::vector<Point> good = usable(points);
  std::erase_if(
      good, [](const Point& point) { return point.factor >= static_cast<double>(point.length); });
  if (good.size() < 4) return std::nullopt;
  const std::vector<double> weight = weights(good);
  std::vector<Row> rows;
  std::vector<double> y;
  for (const Point& point : good) {
    const auto length = static_cast<double>(point.length);
    rows.push_back({1, logit(point.sparsity), -std::log(length)});
    y.push_back(std::log(-std::log1p(-point.factor / length)));
  }
  const std::optional<Row> found = solve(rows, y, weight, 3);
  if (!found || (*found)[1] <= 0) return std::nullopt;
  return rms_error(good, weight, [&](const Point& point) {
    const auto length = static_cast<double>(point.length);
    const double side = std::log(-std::log1p(-point.factor / length));
    const double odds = (side - (*found)[0] + (*found)[2] * std::log(length)) / (*found)[1];
    return 1 / (1 + std::exp(-odds));
  });
}

}  // namespace foveal::calibrate

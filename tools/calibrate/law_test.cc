#include "calibrate/law.h"

#include <gtest/gtest.h>

#include <cmath>

namespace foveal::calibrate {
namespace {

std::vector<Point> points_of(double (*factor)(double, double), std::vector<int64_t> lengths) {
  std::vector<Point> out;
  for (const int64_t length : lengths) {
    for (double s = 0.05; s < 0.96; s += 0.1) {
      out.push_back({factor(s, static_cast<double>(length)), s, length});
    }
  }
  return out;
}

double published(double s, double) { return 7.93 * std::exp(8.61 * s); }
double three(double s, double) { return 3 * std::exp(2 * s) * std::pow(s / (1 - s), 0.7); }
double with_length(double s, double length) {
  return length * (1 - std::exp(-0.3 * std::pow(s / (1 - s), 1.2) / std::pow(length, 0.4)));
}

TEST(Law, FindsThePublishedOne) {
  const auto law = fit_exponential(points_of(published, {1024, 4096}));
  ASSERT_TRUE(law.has_value());
  EXPECT_NEAR(law->coefficients[0].second, 7.93, 1e-6);
  EXPECT_NEAR(law->coefficients[1].second, 8.61, 1e-6);
  EXPECT_NEAR(law->error, 0, 1e-6);
  EXPECT_NEAR(law->factor(0.5), 587.2, 0.5);  // of TensorRT-LLM's table
}

TEST(Law, FindsThreeCoefficients) {
  const auto law = fit_three(points_of(three, {2048}));
  ASSERT_TRUE(law.has_value());
  EXPECT_NEAR(law->coefficients[0].second, 3, 1e-6);
  EXPECT_NEAR(law->coefficients[1].second, 2, 1e-6);
  EXPECT_NEAR(law->coefficients[2].second, 0.7, 1e-6);
  EXPECT_GT(fit_exponential(points_of(three, {2048}))->error, 0.01);
}

TEST(Law, FindsTheLengthExponent) {
  const std::vector<Point> points = points_of(with_length, {512, 2048, 8192});
  EXPECT_NEAR(error_with_length(points).value(), 0, 1e-6);
  EXPECT_GT(fit_three(points)->error, 0.05);
  EXPECT_FALSE(error_with_length(points_of(with_length, {512})).has_value());
}

TEST(Law, NeedsPointsThatSaySomething) {
  EXPECT_FALSE(fit_exponential({}).has_value());
  const std::vector<Point> one{{10, 0.5, 100}, {10, 0.5, 100}, {10, 0.5, 100}};
  EXPECT_FALSE(fit_exponential(one).has_value());
  const std::vector<Point> outside{{1, 0, 100}, {2, 0.01, 100}, {99, 0.99, 100}, {50, 0.5, 100}};
  EXPECT_FALSE(fit_exponential(outside).has_value());
  const std::vector<Point> falling{{9, 0.2, 100}, {8, 0.4, 100}, {7, 0.6, 100}, {6, 0.7, 100}};
  EXPECT_FALSE(fit_exponential(falling).has_value());
}

}  // namespace
}  // namespace foveal::calibrate

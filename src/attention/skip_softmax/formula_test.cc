#include "attention/skip_softmax/formula.h"

#include <gtest/gtest.h>

#include <boost/json.hpp>
#include <cmath>
#include <fstream>
#include <iterator>
#include <string>

#include "foveal/error.h"

namespace foveal::attention::skip_softmax {
namespace {

namespace json = boost::json;

json::array golden_cases() {
  std::ifstream file(FOVEAL_SOURCE_DIR "/tests/golden/numexpr.json");
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  return json::parse(text).as_object().at("cases").as_array();
}

Coefficients coefficients_of(const json::object& entry) {
  Coefficients coefficients;
  for (const auto& item : entry.at("coefficients").as_object()) {
    coefficients.emplace(item.key(), item.value().to_number<double>());
  }
  return coefficients;
}

std::string formula_of(const json::object& entry) {
  return std::string(entry.at("formula").as_string());
}

TEST(Formula, AgreesWithNumexpr) {
  int tested = 0;
  for (const json::value& value : golden_cases()) {
    const json::object& entry = value.as_object();
    if (!entry.at("valid").as_bool()) continue;
    const Formula formula = Formula::parse(formula_of(entry));
    const Coefficients coefficients = coefficients_of(entry);
    formula.check_names(coefficients);
    const json::array& targets = entry.at("target_sparsity").as_array();
    for (size_t i = 0; i < targets.size(); ++i) {
      const double expected = entry.at("values").as_array().at(i).to_number<double>();
      const double got = formula.evaluate(coefficients, targets[i].to_number<double>());
      EXPECT_LE(std::abs(got - expected), 1e-12 * std::abs(expected))
          << formula_of(entry) << " at " << targets[i] << " gave " << got;
      ++tested;
    }
  }
  EXPECT_GT(tested, 150);
}

TEST(Formula, RejectsWhatNumexprRejectsAtItsStage) {
  int tested = 0;
  for (const json::value& value : golden_cases()) {
    const json::object& entry = value.as_object();
    if (entry.at("valid").as_bool()) continue;
    SCOPED_TRACE(formula_of(entry));
    ++tested;
    const Coefficients coefficients = coefficients_of(entry);
    const auto run = [&](const std::string& until) {
      const Formula formula = Formula::parse(formula_of(entry));
      if (until == "parse") return;
      formula.check_names(coefficients);
      if (until == "names") return;
      formula.evaluate(coefficients, entry.at("target_sparsity").at(0).to_number<double>());
    };
    EXPECT_THROW(run(std::string(entry.at("reject_at").as_string())), Error);
  }
  EXPECT_GT(tested, 20);
}

double constant(const std::string& text) {
  return Formula::parse("(" + text + ") + 0 * target_sparsity").evaluate({}, 0.5);
}

TEST(Formula, FollowsPythonsPrecedence) {
  EXPECT_EQ(constant("2 ** 3 ** 2"), 512);
  EXPECT_EQ(constant("-2 ** 2"), -4);
  EXPECT_EQ(constant("2 ** -1"), 0.5);
  EXPECT_EQ(constant("2 ** -3 ** 2"), std::pow(2.0, -9));
  EXPECT_EQ(constant("10 - 4 - 3"), 3);
  EXPECT_EQ(constant("7 // 2 * 3 % 5"), 4);
  EXPECT_EQ(constant("-7 // 2"), -4);
  EXPECT_EQ(constant("-7 % 3"), 2);
  EXPECT_EQ(constant("(1 << 2 + 1 | 3 & 6 ^ 1)"), 11);
  EXPECT_EQ(constant("~5 * 2"), -12);
  EXPECT_EQ(constant("(1 < 2) + (2 == 2)"), 2);
  EXPECT_EQ(constant("where(~(1 > 2) & (3 != 4), 6, 7)"), 6);
  EXPECT_EQ(constant("where(1 > 2 | 0, 6, 7)"), 7);
  EXPECT_EQ(constant("round(2.5) + sign(-3) + copysign(4, -1)"), -3);
  EXPECT_EQ(constant("-17 >> 2"), -5);
}

TEST(Formula, RejectsTypesAndChains) {
  for (const char* text : {"target_sparsity & 1", "~target_sparsity", "1 < target_sparsity < 2",
                           "target_sparsity << 1", "where(target_sparsity, 1, 2)", "1.0 | 2",
                           "01 * target_sparsity", "1e999 * target_sparsity", "where(1 < 2, 3)",
                           "exp() * target_sparsity", "exp(1,) * target_sparsity",
                           "x\n+target_sparsity", "3target_sparsity", "1_000 * target_sparsity"}) {
    EXPECT_THROW(Formula::parse(text), Error) << text;
  }
}

TEST(Formula, LimitsLengthAndDepth) {
  const std::string name = "target_sparsity";
  EXPECT_NO_THROW(Formula::parse(std::string(60, '(') + name + std::string(60, ')')));
  EXPECT_THROW(Formula::parse(std::string(400, '(') + name + std::string(400, ')')), Error);
  EXPECT_THROW(Formula::parse(std::string(900, '-') + name), Error);
  std::string powers = name;
  for (int i = 0; i < 150; ++i) powers += "**2";
  EXPECT_THROW(Formula::parse(powers), Error);
  EXPECT_THROW(Formula::parse(name + std::string(5000, ' ')), Error);
  EXPECT_THROW(Formula::parse(std::string("a\0b", 3)), Error);
}

TEST(Formula, IsFiniteOrFails) {
  EXPECT_THROW(constant("1 / 0"), Error);
  EXPECT_THROW(constant("1 << 70"), Error);
  EXPECT_THROW(constant("(2 ** 60) & 1"), Error);
  EXPECT_EQ(constant("1 / (1 / 0)"), 0) << "only the result matters";
}

}  // namespace
}  // namespace foveal::attention::skip_softmax

#include "attention/skip_softmax/formula_ops.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <iterator>
#include <limits>

namespace foveal::attention::skip_softmax {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
/// Above this a double no longer tells neighbouring integers apart.
constexpr double kMaxInteger = 9007199254740992.0;

/// A bitwise operation on integers held as doubles; not a number where they are not exact.
template <class Op>
double on_integers(double a, double b, Op op) {
  if (!(std::abs(a) <= kMaxInteger) || !(std::abs(b) <= kMaxInteger)) return kNan;
  if (std::trunc(a) != a || std::trunc(b) != b) return kNan;
  return static_cast<double>(op(static_cast<int64_t>(a), static_cast<int64_t>(b)));
}

double shift_left(const double* x) {
  if (!(x[1] >= 0 && x[1] < 64)) return kNan;
  const double value = std::ldexp(x[0], static_cast<int>(x[1]));
  return std::abs(value) <= kMaxInteger ? value : kNan;
}

double shift_right(const double* x) {
  if (!(x[1] >= 0 && x[1] < 64)) return kNan;
  return std::floor(std::ldexp(x[0], -static_cast<int>(x[1])));
}

double sign(const double* x) {
  if (std::isnan(x[0])) return x[0];
  return static_cast<double>((x[0] > 0) - (x[0] < 0));
}

/// Not a number wins, as in NumPy.
double maximum(const double* x) {
  return std::isnan(x[0]) || std::isnan(x[1]) ? kNan : std::max(x[0], x[1]);
}
double minimum(const double* x) {
  return std::isnan(x[0]) || std::isnan(x[1]) ? kNan : std::min(x[0], x[1]);
}

double identity(const double* x) { return x[0]; }

using Rule = TypeRule;

// The first kNumOperators rows are operators, the others functions.
constexpr Operation kOperations[] = {
    {"**", 2, Rule::kArithmetic, [](const double* x) { return std::pow(x[0], x[1]); }},
    {"+x", 1, Rule::kArithmetic, identity},
    {"-x", 1, Rule::kArithmetic, [](const double* x) { return -x[0]; }},
    {"~bool", 1, Rule::kTruth, [](const double* x) { return x[0] == 0 ? 1.0 : 0.0; }},
    {"~int", 1, Rule::kArithmetic, [](const double* x) { return -x[0] - 1; }},
    {"*", 2, Rule::kArithmetic, [](const double* x) { return x[0] * x[1]; }},
    {"/", 2, Rule::kReal, [](const double* x) { return x[0] / x[1]; }},
    // The quotient's floor, not fmod: so does numexpr, and 0.9 // 0.3 differs between the two.
    {"//", 2, Rule::kArithmetic, [](const double* x) { return std::floor(x[0] / x[1]); }},
    {"%", 2, Rule::kArithmetic,
     [](const double* x) { return x[0] - std::floor(x[0] / x[1]) * x[1]; }},
    {"+", 2, Rule::kArithmetic, [](const double* x) { return x[0] + x[1]; }},
    {"-", 2, Rule::kArithmetic, [](const double* x) { return x[0] - x[1]; }},
    {"<<", 2, Rule::kShift, shift_left},
    {">>", 2, Rule::kShift, shift_right},
    {"&", 2, Rule::kBitwise,
     [](const double* x) { return on_integers(x[0], x[1], std::bit_and<int64_t>()); }},
    {"^", 2, Rule::kBitwise,
     [](const double* x) { return on_integers(x[0], x[1], std::bit_xor<int64_t>()); }},
    {"|", 2, Rule::kBitwise,
     [](const double* x) { return on_integers(x[0], x[1], std::bit_or<int64_t>()); }},
    {"<", 2, Rule::kTruth, [](const double* x) { return x[0] < x[1] ? 1.0 : 0.0; }},
    {"<=", 2, Rule::kTruth, [](const double* x) { return x[0] <= x[1] ? 1.0 : 0.0; }},
    {">", 2, Rule::kTruth, [](const double* x) { return x[0] > x[1] ? 1.0 : 0.0; }},
    {">=", 2, Rule::kTruth, [](const double* x) { return x[0] >= x[1] ? 1.0 : 0.0; }},
    {"==", 2, Rule::kTruth, [](const double* x) { return x[0] == x[1] ? 1.0 : 0.0; }},
    {"!=", 2, Rule::kTruth, [](const double* x) { return x[0] != x[1] ? 1.0 : 0.0; }},

    {"where", 3, Rule::kWhere, [](const double* x) { return x[0] != 0 ? x[1] : x[2]; }},
    {"pow", 2, Rule::kReal, [](const double* x) { return std::pow(x[0], x[1]); }},
    {"sqrt", 1, Rule::kReal, [](const double* x) { return std::sqrt(x[0]); }},
    {"exp", 1, Rule::kReal, [](const double* x) { return std::exp(x[0]); }},
    {"expm1", 1, Rule::kReal, [](const double* x) { return std::expm1(x[0]); }},
    {"log", 1, Rule::kReal, [](const double* x) { return std::log(x[0]); }},
    {"log1p", 1, Rule::kReal, [](const double* x) { return std::log1p(x[0]); }},
    {"log10", 1, Rule::kReal, [](const double* x) { return std::log10(x[0]); }},
    {"log2", 1, Rule::kReal, [](const double* x) { return std::log2(x[0]); }},
    {"sin", 1, Rule::kReal, [](const double* x) { return std::sin(x[0]); }},
    {"cos", 1, Rule::kReal, [](const double* x) { return std::cos(x[0]); }},
    {"tan", 1, Rule::kReal, [](const double* x) { return std::tan(x[0]); }},
    {"arcsin", 1, Rule::kReal, [](const double* x) { return std::asin(x[0]); }},
    {"arccos", 1, Rule::kReal, [](const double* x) { return std::acos(x[0]); }},
    {"arctan", 1, Rule::kReal, [](const double* x) { return std::atan(x[0]); }},
    {"arctan2", 2, Rule::kReal, [](const double* x) { return std::atan2(x[0], x[1]); }},
    {"sinh", 1, Rule::kReal, [](const double* x) { return std::sinh(x[0]); }},
    {"cosh", 1, Rule::kReal, [](const double* x) { return std::cosh(x[0]); }},
    {"tanh", 1, Rule::kReal, [](const double* x) { return std::tanh(x[0]); }},
    {"arcsinh", 1, Rule::kReal, [](const double* x) { return std::asinh(x[0]); }},
    {"arccosh", 1, Rule::kReal, [](const double* x) { return std::acosh(x[0]); }},
    {"arctanh", 1, Rule::kReal, [](const double* x) { return std::atanh(x[0]); }},
    {"hypot", 2, Rule::kReal, [](const double* x) { return std::hypot(x[0], x[1]); }},
    {"abs", 1, Rule::kArithmetic, [](const double* x) { return std::abs(x[0]); }},
    {"floor", 1, Rule::kReal, [](const double* x) { return std::floor(x[0]); }},
    {"ceil", 1, Rule::kReal, [](const double* x) { return std::ceil(x[0]); }},
    {"trunc", 1, Rule::kReal, [](const double* x) { return std::trunc(x[0]); }},
    {"round", 1, Rule::kReal, [](const double* x) { return std::nearbyint(x[0]); }},
    {"sign", 1, Rule::kReal, sign},
    {"fmod", 2, Rule::kReal, [](const double* x) { return std::fmod(x[0], x[1]); }},
    {"copysign", 2, Rule::kReal, [](const double* x) { return std::copysign(x[0], x[1]); }},
    {"nextafter", 2, Rule::kReal, [](const double* x) { return std::nextafter(x[0], x[1]); }},
    {"maximum", 2, Rule::kReal, maximum},
    {"minimum", 2, Rule::kReal, minimum},
    {"signbit", 1, Rule::kTruth, [](const double* x) { return std::signbit(x[0]) ? 1.0 : 0.0; }},
    {"isnan", 1, Rule::kTruth, [](const double* x) { return std::isnan(x[0]) ? 1.0 : 0.0; }},
    {"isinf", 1, Rule::kTruth, [](const double* x) { return std::isinf(x[0]) ? 1.0 : 0.0; }},
    {"isfinite", 1, Rule::kTruth, [](const double* x) { return std::isfinite(x[0]) ? 1.0 : 0.0; }},
    // Reductions and casts of one scalar.
    {"sum", 1, Rule::kArithmetic, identity},
    {"prod", 1, Rule::kArithmetic, identity},
    {"min", 1, Rule::kArithmetic, identity},
    {"max", 1, Rule::kArithmetic, identity},
    {"copy", 1, Rule::kArithmetic, identity},
    {"real", 1, Rule::kReal, identity},
    {"imag", 1, Rule::kReal, [](const double* /*x*/) { return 0.0; }},
    {"ones_like", 1, Rule::kArithmetic, [](const double* /*x*/) { return 1.0; }},
};
constexpr size_t kNumOperators = 22;
static_assert(kOperations[kNumOperators].name == "where");

std::optional<size_t> find_in(size_t begin, size_t end, std::string_view name) {
  for (size_t index = begin; index < end; ++index) {
    if (kOperations[index].name == name) return index;
  }
  return std::nullopt;
}

}  // namespace

std::span<const Operation> operations() { return kOperations; }

std::optional<size_t> find_operator(std::string_view symbol) {
  return find_in(0, kNumOperators, symbol);
}

std::optional<size_t> find_function(std::string_view name) {
  return find_in(kNumOperators, std::size(kOperations), name);
}

std::optional<ValueType> result_type(const Operation& operation,
                                     std::span<const ValueType> operands) {
  const ValueType widest = *std::max_element(operands.begin(), operands.end());
  switch (operation.rule) {
    case TypeRule::kArithmetic:
      return std::max(widest, ValueType::kInt);
    case TypeRule::kReal:
      return ValueType::kReal;
    case TypeRule::kTruth:
      return ValueType::kBool;
    case TypeRule::kBitwise:
      if (widest == ValueType::kReal) return std::nullopt;
      return widest;
    case TypeRule::kShift:
      if (widest == ValueType::kReal) return std::nullopt;
      return ValueType::kInt;
    case TypeRule::kWhere:
      if (operands[0] != ValueType::kBool) return std::nullopt;
      return std::max(operands[1], operands[2]);
  }
  return std::nullopt;
}

}  // namespace foveal::attention::skip_softmax

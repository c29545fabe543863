#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace foveal::attention::skip_softmax {

/// What an expression is. Names are real; integers come only from literals.
enum class ValueType : uint8_t { kBool, kInt, kReal };

/// How an operation treats the types of its operands.
enum class TypeRule : uint8_t {
  kArithmetic,  ///< integer when all operands are, else real
  kReal,        ///< real
  kTruth,       ///< a truth value
  kBitwise,     ///< truth values or integers, never reals
  kShift,       ///< integers, never reals
  kWhere,       ///< truth value, then two of any type
};

/// An operator or a function. Integers are computed as the doubles they are equal to.
struct Operation {
  std::string_view name;  ///< unary operators: "-x", "+x", "~bool", "~int"
  int32_t arity = 1;
  TypeRule rule = TypeRule::kReal;
  double (*apply)(const double* operands) = nullptr;
};

std::span<const Operation> operations();
/// Index into operations(), or nothing.
std::optional<size_t> find_operator(std::string_view symbol);
std::optional<size_t> find_function(std::string_view name);

/// The type of the result, or nothing when an operand's type does not fit.
std::optional<ValueType> result_type(const Operation& operation,
                                     std::span<const ValueType> operands);

}  // namespace foveal::attention::skip_softmax

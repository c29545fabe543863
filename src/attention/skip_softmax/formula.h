#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace foveal::attention::skip_softmax {

using Coefficients = std::map<std::string, double, std::less<>>;

/// An expression in numexpr's language over float64 scalars, as checkpoints carry it:
///
///     a * exp(b * target_sparsity)
///
/// Python's operators and precedence: `+ - * / // % **`, unary `+ - ~`, one comparison, `& | ^ <<
/// >>` on truth values and whole-number constants, parentheses; functions in formula_ops.cc; `/` is
/// true division. Beyond numexpr, `pow(x, y)` is accepted. There are no named constants.
class Formula {
 public:
  static constexpr size_t kMaxLength = 1024;
  static constexpr int kMaxDepth = 64;

  /// Throws kCorruptFile: "invalid formula ...". `text` may be hostile.
  static Formula parse(std::string_view text);

  /// Names it mentions (not functions), in order of first mention.
  const std::vector<std::string>& names() const { return names_; }

  /// Throws kCorruptFile unless `target_sparsity` is mentioned and all other names are there.
  void check_names(const Coefficients& coefficients) const;

  /// Its value; check_names must hold. Throws kInvalidArgument when it is not finite.
  double evaluate(const Coefficients& coefficients, double target_sparsity) const;

 private:
  friend class FormulaParser;

  /// Postfix code: evaluation needs no recursion.
  struct Instruction {
    enum class Kind : uint8_t { kConstant, kName, kCall } kind = Kind::kConstant;
    size_t index = 0;  ///< of the name or the operation
    double value = 0;
  };

  std::string text_;
  std::vector<std::string> names_;
  std::vector<Instruction> code_;
};

}  // namespace foveal::attention::skip_softmax

#pragma once

#include <optional>
#include <string_view>

#include "attention/skip_softmax/formula.h"
#include "attention/skip_softmax/formula_ops.h"

namespace foveal::attention::skip_softmax {

inline constexpr std::string_view kFormulaWhere = "SkipSoftmaxFormula";

/// Precedence climbing over Formula's language; writes postfix code. One use.
class FormulaParser {
 public:
  FormulaParser(std::string_view text, Formula& formula) : text_(text), formula_(formula) {}
  void parse();

 private:
  enum class TokenKind : uint8_t { kEnd, kNumber, kName, kSymbol };
  struct Token {
    TokenKind kind = TokenKind::kEnd;
    std::string_view text;
  };

  /// Parses operators that bind at least as tightly as `min_power`.
  ValueType parse_expression(int min_power);
  ValueType parse_operand();
  ValueType parse_unary();
  ValueType parse_name();
  ValueType parse_call(std::string_view name);
  ValueType parse_number();

  ValueType emit_call(std::optional<size_t> operation, std::span<const ValueType> operands);
  void advance();
  Token scan() const;
  bool at(std::string_view symbol) const {
    return token_.kind == TokenKind::kSymbol && token_.text == symbol;
  }
  void expect(std::string_view symbol);
  [[noreturn]] void reject(std::string_view need) const;

  std::string_view text_;
  size_t position_ = 0;  ///< behind token_
  Token token_;
  int depth_ = 0;
  Formula& formula_;
};

}  // namespace foveal::attention::skip_softmax

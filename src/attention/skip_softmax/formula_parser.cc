#include "attention/skip_softmax/formula_parser.h"

#include <algorithm>
#include <charconv>
#include <iterator>
#include <utility>

#include "base/check.h"

namespace foveal::attention::skip_softmax {
namespace {

// Python's precedence, loosest first. Unary signs stand between the products and the power.
constexpr int kComparePower = 1;
constexpr int kUnaryPower = 8;
constexpr int kPowPower = 9;

struct Binary {
  std::string_view symbol;
  int power;
};
constexpr Binary kBinary[] = {{"**", kPowPower},
                              {"*", 7},
                              {"/", 7},
                              {"//", 7},
                              {"%", 7},
                              {"+", 6},
                              {"-", 6},
                              {"<<", 5},
                              {">>", 5},
                              {"&", 4},
                              {"^", 3},
                              {"|", 2},
                              {"<", kComparePower},
                              {"<=", kComparePower},
                              {">", kComparePower},
                              {">=", kComparePower},
                              {"==", kComparePower},
                              {"!=", kComparePower}};

// Two-character symbols come first so that the longest one is taken.
constexpr std::string_view kSymbols[] = {
    "**", "//", "<<", ">>", "<=", ">=", "==", "!=", "+", "-", "*",
    "/",  "%",  "&",  "|",  "^",  "~",  "<",  ">",  "(", ")", ","};

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_name_start(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
bool is_name(char c) { return is_name_start(c) || is_digit(c); }

/// The whole of a UTF-8 character, so that the error is text.
std::string_view first_character(std::string_view text) {
  size_t len = 1;
  while (len < text.size() && (static_cast<unsigned char>(text[len]) & 0xc0U) == 0x80U) ++len;
  return text.substr(0, len);
}

size_t skip_digits(std::string_view text, size_t at) {
  while (at < text.size() && is_digit(text[at])) ++at;
  return at;
}

/// Where the number that starts at `at` ends: digits, fraction, exponent.
size_t number_end(std::string_view text, size_t at) {
  at = skip_digits(text, at);
  if (at < text.size() && text[at] == '.') at = skip_digits(text, at + 1);
  if (at < text.size() && (text[at] == 'e' || text[at] == 'E')) {
    size_t digits = at + 1;
    if (digits < text.size() && (text[digits] == '+' || text[digits] == '-')) ++digits;
    const size_t end = skip_digits(text, digits);
    if (end > digits) at = end;
  }
  return at;
}

}  // namespace

void FormulaParser::parse() {
  FOVEAL_CHECK(text_.size() <= Formula::kMaxLength, ErrorKind::kCorruptFile, kFormulaWhere,
               "got an invalid formula of {} bytes; need at most {}", text_.size(),
               Formula::kMaxLength);
  advance();
  parse_expression(/*min_power=*/0);
  if (token_.kind != TokenKind::kEnd) reject("an operator or the end");
}

ValueType FormulaParser::parse_expression(int min_power) {
  if (++depth_ > Formula::kMaxDepth) reject("less deep nesting");
  ValueType left = parse_operand();
  bool compared = false;
  while (token_.kind == TokenKind::kSymbol) {
    const auto* binary = std::find_if(std::begin(kBinary), std::end(kBinary),
                                      [&](const Binary& row) { return row.symbol == token_.text; });
    if (binary == std::end(kBinary) || binary->power < min_power) break;
    if (binary->power == kComparePower && std::exchange(compared, true)) {
      reject("no chain of comparisons");
    }
    advance();
    // A power groups to the right and takes a sign on its right; the others group to the left.
    const ValueType right =
        parse_expression(binary->power == kPowPower ? kUnaryPower : binary->power + 1);
    const ValueType operands[] = {left, right};
    left = emit_call(find_operator(binary->symbol), operands);
  }
  --depth_;
  return left;
}

ValueType FormulaParser::parse_operand() {
  if (token_.kind == TokenKind::kNumber) return parse_number();
  if (token_.kind == TokenKind::kName) return parse_name();
  if (at("+") || at("-") || at("~")) return parse_unary();
  if (!at("(")) reject("a number, a name, '(' or a sign");
  advance();
  const ValueType type = parse_expression(/*min_power=*/0);
  expect(")");
  return type;
}

ValueType FormulaParser::parse_unary() {
  const char sign = token_.text[0];
  advance();
  const ValueType operands[] = {parse_expression(kUnaryPower)};
  if (sign == '~') {
    if (operands[0] == ValueType::kReal) reject("no '~' of a real number");
    return emit_call(find_operator(operands[0] == ValueType::kBool ? "~bool" : "~int"), operands);
  }
  return emit_call(find_operator(sign == '-' ? "-x" : "+x"), operands);
}

ValueType FormulaParser::parse_name() {
  const std::string_view name = token_.text;
  advance();
  if (at("(")) return parse_call(name);
  std::vector<std::string>& names = formula_.names_;
  auto known = std::find(names.begin(), names.end(), name);
  if (known == names.end()) known = names.insert(names.end(), std::string(name));
  formula_.code_.push_back({.kind = Formula::Instruction::Kind::kName,
                            .index = static_cast<size_t>(known - names.begin())});
  return ValueType::kReal;
}

ValueType FormulaParser::parse_call(std::string_view name) {
  const std::optional<size_t> function = find_function(name);
  if (!function) reject(fmt::format("a known function instead of '{}'", name));
  const auto arity = static_cast<size_t>(operations()[*function].arity);
  advance();
  std::vector<ValueType> operands;
  while (!at(")")) {
    if (!operands.empty()) expect(",");
    operands.push_back(parse_expression(/*min_power=*/0));
    if (operands.size() > arity) break;
  }
  if (operands.size() != arity) reject(fmt::format("{} arguments for '{}'", arity, name));
  advance();
  return emit_call(function, operands);
}

ValueType FormulaParser::parse_number() {
  const std::string_view text = token_.text;
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) reject("a float64 number");
  const bool integer = text.find_first_not_of("0123456789") == text.npos;
  if (integer && text[0] == '0' && text.size() > 1) reject("no leading zero");
  advance();
  formula_.code_.push_back({.kind = Formula::Instruction::Kind::kConstant, .value = value});
  return integer ? ValueType::kInt : ValueType::kReal;
}

ValueType FormulaParser::emit_call(std::optional<size_t> operation,
                                   std::span<const ValueType> operands) {
  FOVEAL_INVARIANT(operation.has_value());
  const Operation& called = operations()[*operation];
  const std::optional<ValueType> type = result_type(called, operands);
  if (!type) {
    reject(called.rule == TypeRule::kWhere
               ? "a comparison as the first argument of 'where'"
               : fmt::format("whole numbers or comparisons around '{}'", called.name));
  }
  formula_.code_.push_back({.kind = Formula::Instruction::Kind::kCall, .index = *operation});
  return *type;
}

void FormulaParser::advance() {
  while (position_ < text_.size() && (text_[position_] == ' ' || text_[position_] == '\t')) {
    ++position_;
  }
  token_ = scan();
  position_ += token_.text.size();
}

FormulaParser::Token FormulaParser::scan() const {
  const std::string_view rest = text_.substr(position_);
  if (rest.empty()) return {};
  if (is_digit(rest[0]) || (rest[0] == '.' && rest.size() > 1 && is_digit(rest[1]))) {
    return {TokenKind::kNumber, rest.substr(0, number_end(rest, 0))};
  }
  if (is_name_start(rest[0])) {
    const auto* end = std::find_if_not(rest.begin(), rest.end(), is_name);
    return {TokenKind::kName, rest.substr(0, static_cast<size_t>(end - rest.begin()))};
  }
  for (const std::string_view symbol : kSymbols) {
    if (rest.starts_with(symbol)) return {TokenKind::kSymbol, rest.substr(0, symbol.size())};
  }
  fail(ErrorKind::kCorruptFile, kFormulaWhere,
       "got an invalid formula '{}' ('{}' at {}); need names, numbers, operators", text_,
       first_character(rest), position_);
}

void FormulaParser::expect(std::string_view symbol) {
  if (!at(symbol)) reject(fmt::format("'{}'", symbol));
  advance();
}

void FormulaParser::reject(std::string_view need) const {
  fail(ErrorKind::kCorruptFile, kFormulaWhere,
       "got an invalid formula '{}' ('{}' before position {}); need {}", text_,
       token_.kind == TokenKind::kEnd ? "the end" : token_.text, position_, need);
}

}  // namespace foveal::attention::skip_softmax

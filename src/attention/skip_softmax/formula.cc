#include "attention/skip_softmax/formula.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

#include "attention/skip_softmax/formula_ops.h"
#include "attention/skip_softmax/formula_parser.h"
#include "base/check.h"

namespace foveal::attention::skip_softmax {
namespace {
constexpr std::string_view kTarget = "target_sparsity";
}

Formula Formula::parse(std::string_view text) {
  Formula formula;
  formula.text_ = std::string(text.substr(0, kMaxLength));
  FormulaParser(text, formula).parse();
  return formula;
}

void Formula::check_names(const Coefficients& coefficients) const {
  FOVEAL_CHECK(std::find(names_.begin(), names_.end(), kTarget) != names_.end(),
               ErrorKind::kCorruptFile, kFormulaWhere,
               "got '{}', which names {}; need a formula of the target: it must reference "
               "'target_sparsity'",
               text_, names_);
  std::vector<std::string_view> missing;
  std::vector<std::string_view> required;
  for (const std::string& name : names_) {
    if (name == kTarget) continue;
    required.push_back(name);
    if (!coefficients.contains(name)) missing.push_back(name);
  }
  FOVEAL_CHECK(missing.empty(), ErrorKind::kCorruptFile, kFormulaWhere,
               "got coefficients without {}; need all that the formula names: '{}' requires "
               "coefficients {}; missing: {}",
               missing, text_, required, missing);
}

double Formula::evaluate(const Coefficients& coefficients, double target_sparsity) const {
  std::vector<double> stack;
  for (const Instruction& instruction : code_) {
    switch (instruction.kind) {
      case Instruction::Kind::kConstant:
        stack.push_back(instruction.value);
        break;
      case Instruction::Kind::kName: {
        const std::string& name = names_[instruction.index];
        stack.push_back(name == kTarget ? target_sparsity : coefficients.at(name));
        break;
      }
      case Instruction::Kind::kCall: {
        const Operation& operation = operations()[instruction.index];
        const size_t operands = stack.size() - static_cast<size_t>(operation.arity);
        const double value = operation.apply(stack.data() + operands);
        stack.resize(operands);
        stack.push_back(value);
        break;
      }
    }
  }
  const double result = stack.back();
  FOVEAL_CHECK(std::isfinite(result), ErrorKind::kInvalidArgument, kFormulaWhere,
               "got {} from '{}' at target_sparsity {}; need a finite number", result, text_,
               target_sparsity);
  return result;
}

}  // namespace foveal::attention::skip_softmax

#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/options_node.h"
#include "foveal/config.h"

namespace foveal {

struct OptionGroup;

/// Bounds of a number, ends included unless said otherwise.
struct Range {
  double min = std::numeric_limits<double>::lowest();
  double max = std::numeric_limits<double>::max();
  bool above_min = false;  ///< min itself is refused
};

/// A key that is known only so that files written for TensorRT-LLM get a sentence: one spelling is
/// accepted (empty: none) because Foveal does that anyway; the rest is refused with the reason.
struct FixedOption {
  std::string_view accepts;
  std::string_view why;
  bool listed = true;          ///< named where errors and help name the fields
  std::string_view also = {};  ///< another value that is answered the same way
};

/// A field whose form no other type here has (a union, a list of objects).
struct CustomOption {
  /// How a flag's value is read: as YAML, or as a list of texts, of which each may be @FILE.
  enum class FlagForm : uint8_t { kYaml, kText, kTextOrFile };
  std::function<void(const ConfigNode&, const std::string& path)> bind;
  std::function<void(const std::string& path)> validate;
  std::string_view placeholder;              ///< in help: `YAML`, `N`
  std::function<std::string()> shown_value;  ///< for "default ..." in help
  std::vector<std::pair<std::string, std::shared_ptr<OptionGroup>>> alternatives;  ///< for help
  FlagForm flag_form = FlagForm::kYaml;
};

/// Points at the field in the struct being filled.
using OptionTarget =
    std::variant<bool*, int64_t*, double*, std::string*, std::optional<bool>*,
                 std::optional<int64_t>*, std::optional<uint64_t>*, std::optional<double>*,
                 std::optional<PhaseValue>*, std::vector<std::string>*, std::vector<int32_t>*,
                 std::vector<std::vector<int32_t>>*, std::map<int32_t, double>*,
                 std::shared_ptr<OptionGroup>, FixedOption, CustomOption>;

/// One row of a table: everything YAML, flags, help and documentation say about a field.
struct OptionField {
  std::string_view name;  ///< snake_case: the YAML key; the flag has dashes
  OptionTarget target;
  std::string_view help;
  Range range{};                            ///< numbers, each number of a PhaseValue
  std::vector<std::string_view> choices{};  ///< strings: the only ones accepted
  std::vector<std::pair<std::string_view, std::string_view>> synonyms{};  ///< {written, means}
  /// A further rule with the words after "need": `an odd number`.
  std::function<bool(double)> number_rule{};
  std::function<bool(std::string_view)> text_rule{};
  std::string_view rule_text{};
  std::vector<std::string_view> also{};  ///< other names for the same field
  char short_flag = 0;                   ///< `-m`
  bool required = false;                 ///< commands refuse to start without it
};

/// What is wrong between the fields of one struct.
struct Complaint {
  std::string_view field;
  std::string text;  ///< `got 64; need less than prompt_budget (64)`
};

/// The table of one struct.
struct OptionGroup {
  std::vector<OptionField> fields;
  std::function<std::optional<Complaint>()> check{};
  std::string_view flag_prefix{};  ///< of a nested struct: `kv` makes `--kv-dtype`

  const OptionField* find(std::string_view name) const;  ///< by `name` or one of `also`
};

/// Fills the struct behind `group` from a map (or null: nothing). Fields that are not mentioned, or
/// are null, keep their values. Throws kInvalidArgument, `[file:line path] got X; need Y`, for
/// unknown keys, wrong types, values out of range and broken rules between fields. The struct is
/// then half filled: throw it away.
void bind_options(const OptionGroup& group, const ConfigNode& node, const std::string& path = {});

/// The same rules for a struct filled by code instead of a file.
void validate_options(const OptionGroup& group, const std::string& path = {});

/// One row of help: every leaf of the table, nested structs and alternatives included.
struct OptionHelp {
  std::string path;         ///< `kv_cache_config.max_tokens`
  std::string flag;         ///< `--kv-max-tokens`; empty where only YAML and --set reach it
  std::string placeholder;  ///< `N`; empty for a switch
  std::string text;         ///< help, then `(default 512; from 1 to 1048576)`
  const OptionField* field = nullptr;
};
std::vector<OptionHelp> describe_options(const OptionGroup& group);

/// `--kv-max-tokens` for field `max_tokens` of a group with prefix `kv`.
std::string flag_name(std::string_view prefix, std::string_view field);

/// What a field accepts, as the words after "need": `an integer from 1 to 1024`.
std::string need_text(const OptionField& field);

}  // namespace foveal

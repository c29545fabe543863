#include <fmt/format.h>

#include "base/options.h"

namespace foveal {
namespace {

std::string range_text(const Range& range) {
  constexpr Range kOpen;
  if (range.min > kOpen.min && range.max < kOpen.max) {
    return fmt::format("{} {} {} {}", range.above_min ? "above" : "from", range.min,
                       range.above_min ? "and up to" : "to", range.max);
  }
  if (range.min > kOpen.min) return fmt::format("{} {}", range.above_min ? ">" : ">=", range.min);
  if (range.max < kOpen.max) return fmt::format("<= {}", range.max);
  return {};
}

std::string joined(const std::vector<std::string_view>& words) {
  std::string out;
  for (const std::string_view word : words) {
    if (!out.empty()) out += ", ";
    out += word;
  }
  return out;
}

std::string number_text(const OptionField& field, std::string_view noun) {
  if (!field.rule_text.empty()) return std::string(field.rule_text);
  const std::string range = range_text(field.range);
  return range.empty() ? std::string(noun) : fmt::format("{} {}", noun, range);
}

struct Needs {
  const OptionField& field;
  std::string operator()(const bool*) const { return "true or false"; }
  std::string operator()(const int64_t*) const { return number_text(field, "an integer"); }
  std::string operator()(const uint64_t*) const { return "an integer from 0 to 2^64 - 1"; }
  std::string operator()(const double*) const { return number_text(field, "a number"); }
  std::string operator()(const std::string*) const {
    if (!field.rule_text.empty()) return std::string(field.rule_text);
    return field.choices.empty() ? "text" : fmt::format("one of {}", joined(field.choices));
  }
  template <class T>
  std::string operator()(const std::optional<T>*) const {
    return (*this)(static_cast<const T*>(nullptr));
  }
  std::string operator()(const PhaseValue*) const {
    return number_text(field, "a number") + ", for both phases or one for each of prefill, decode";
  }
  std::string operator()(const std::vector<std::string>*) const {
    return "text or a list of texts";
  }
  std::string operator()(const std::vector<int32_t>*) const {
    if (range_text(field.range).empty()) return "a token id or a list of token ids";
    return number_text(field, "an integer") + ", or a list of them";
  }
  std::string operator()(const std::vector<std::vector<int32_t>>*) const {
    return "a list of lists of token ids";
  }
  std::string operator()(const std::map<int32_t, double>*) const {
    return fmt::format("a mapping from token ids to {}", number_text(field, "numbers"));
  }
  std::string operator()(const std::shared_ptr<OptionGroup>&) const { return "a mapping"; }
  std::string operator()(const FixedOption& fixed) const {
    return fixed.accepts.empty() ? "nothing" : std::string(fixed.accepts);
  }
  std::string operator()(const CustomOption&) const { return std::string(field.rule_text); }
};

struct Shown {
  std::string operator()(bool* value) const { return *value ? "true" : "false"; }
  std::string operator()(int64_t* value) const { return fmt::format("{}", *value); }
  std::string operator()(uint64_t* value) const { return fmt::format("{}", *value); }
  std::string operator()(double* value) const { return fmt::format("{}", *value); }
  std::string operator()(std::string* value) const { return *value; }
  template <class T>
  std::string operator()(std::optional<T>* value) const {
    return *value ? (*this)(&**value) : std::string();
  }
  std::string operator()(const CustomOption& custom) const {
    return custom.shown_value ? custom.shown_value() : std::string();
  }
  template <class T>
  std::string operator()(const T&) const {
    return {};  // lists start empty, groups have no value
  }
};

struct Placeholder {
  std::string operator()(bool*) const { return {}; }
  std::string operator()(std::optional<bool>*) const { return {}; }
  std::string operator()(int64_t*) const { return "N"; }
  std::string operator()(std::optional<int64_t>*) const { return "N"; }
  std::string operator()(std::optional<uint64_t>*) const { return "N"; }
  std::string operator()(double*) const { return "X"; }
  std::string operator()(std::optional<double>*) const { return "X"; }
  std::string operator()(std::optional<PhaseValue>*) const { return "X"; }
  std::string operator()(std::vector<int32_t>*) const { return "N"; }
  std::string operator()(std::string*) const { return "TEXT"; }
  std::string operator()(std::vector<std::string>*) const { return "TEXT"; }
  std::string operator()(const FixedOption&) const { return {}; }
  std::string operator()(const CustomOption& custom) const {
    return std::string(custom.placeholder);
  }
  template <class T>
  std::string operator()(const T&) const {
    return "YAML";
  }
};

std::string help_text(const OptionField& field) {
  if (const auto* fixed = std::get_if<FixedOption>(&field.target)) {
    return fixed->accepts.empty() ? fmt::format("refused: {}", fixed->why)
                                  : fmt::format("only {}: {}", fixed->accepts, fixed->why);
  }
  std::string notes;
  const auto add = [&notes](const std::string& note) {
    if (note.empty()) return;
    if (!notes.empty()) notes += "; ";
    notes += note;
  };
  const std::string value = std::visit(Shown{}, field.target);
  if (!value.empty()) add(fmt::format("default {}", value));
  if (!field.rule_text.empty()) {
    add(std::string(field.rule_text));
  } else {
    if (!field.choices.empty()) add(fmt::format("one of {}", joined(field.choices)));
    add(range_text(field.range));
  }
  std::string out(field.help);
  if (!notes.empty()) out += fmt::format(" ({})", notes);
  return out;
}

void describe(const OptionGroup& group, const std::string& path, std::string_view prefix,
              bool has_flags, std::vector<OptionHelp>& out) {
  for (const OptionField& field : group.fields) {
    const std::string field_path = join_path(path, field.name);
    if (const auto* nested = std::get_if<std::shared_ptr<OptionGroup>>(&field.target)) {
      describe(**nested, field_path, (*nested)->flag_prefix, has_flags, out);
      continue;
    }
    const auto* fixed = std::get_if<FixedOption>(&field.target);
    if (fixed && !fixed->listed) continue;
    const bool flag = has_flags && !fixed;
    out.push_back({.path = field_path,
                   .flag = flag ? flag_name(prefix, field.name) : std::string(),
                   .placeholder = std::visit(Placeholder{}, field.target),
                   .text = help_text(field),
                   .field = &field});
    const auto* custom = std::get_if<CustomOption>(&field.target);
    if (!custom) continue;
    for (const auto& [name, alternative] : custom->alternatives) {
      describe(*alternative, fmt::format("{}({})", field_path, name), {}, /*has_flags=*/false, out);
    }
  }
}

}  // namespace

std::string need_text(const OptionField& field) { return std::visit(Needs{field}, field.target); }

std::string flag_name(std::string_view prefix, std::string_view field) {
  std::string out = "--";
  if (!prefix.empty()) {
    out += prefix;
    out += '-';
  }
  out += field;
  for (char& c : out) {
    if (c == '_') c = '-';
  }
  return out;
}

std::vector<OptionHelp> describe_options(const OptionGroup& group) {
  std::vector<OptionHelp> out;
  describe(group, {}, group.flag_prefix, /*has_flags=*/true, out);
  return out;
}

}  // namespace foveal

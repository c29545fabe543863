#include "base/options.h"

#include <algorithm>
#include <limits>

#include "base/check.h"
#include "base/options_scalar.h"

namespace foveal {
namespace {

constexpr size_t kMaxItems = 4096;  // of one list: far above any sane request

[[noreturn]] void refuse_value(std::string_view at, std::string_view got, std::string_view need) {
  fail(ErrorKind::kInvalidArgument, at, "got {}; need {}", got, need);
}

void check_number(const OptionField& field, double value, std::string_view at,
                  std::string_view got) {
  const Range& range = field.range;
  // Written so that NaN fails.
  const bool inside = value >= range.min && value <= range.max &&
                      !(range.above_min && value == range.min) &&
                      (!field.number_rule || field.number_rule(value));
  if (!inside) refuse_value(at, got, need_text(field));
}

// Returns the spelling that code uses for `text`.
std::string check_text(const OptionField& field, const std::string& text, std::string_view at) {
  for (const auto& [written, meant] : field.synonyms) {
    if (text == written) return std::string(meant);
  }
  const bool known = field.choices.empty() || std::find(field.choices.begin(), field.choices.end(),
                                                        text) != field.choices.end();
  if (!known || (field.text_rule && !field.text_rule(text))) {
    refuse_value(at, fmt::format("'{}'", printable(text)), need_text(field));
  }
  return text;
}

int32_t read_token(const OptionField& field, const ConfigNode& node, const std::string& path) {
  const int64_t token = read_int(node, path, need_text(field));
  if (token < 0 || token > std::numeric_limits<int32_t>::max()) {
    refuse(node, path, need_text(field));
  }
  return static_cast<int32_t>(token);
}

std::vector<ConfigNode> as_list(const OptionField& field, const ConfigNode& node,
                                const std::string& path) {
  if (node.kind == ConfigNode::Kind::kScalar) return {node};
  if (node.kind != ConfigNode::Kind::kList) refuse(node, path, need_text(field));
  FOVEAL_CHECK(node.items.size() <= kMaxItems, ErrorKind::kInvalidArgument, where(node, path),
               "got {} items; need at most {}", node.items.size(), kMaxItems);
  return node.items;
}

struct Binder {
  const OptionField& field;
  const ConfigNode& node;
  const std::string& path;

  std::string need() const { return need_text(field); }

  void operator()(bool* out) const { *out = read_bool(node, path, need()); }
  void operator()(int64_t* out) const {
    const int64_t value = read_int(node, path, need());
    check_number(field, static_cast<double>(value), where(node, path), shown(node));
    *out = value;
  }
  void operator()(double* out) const {
    const double value = read_double(node, path, need());
    check_number(field, value, where(node, path), shown(node));
    *out = value;
  }
  void operator()(std::string* out) const {
    *out = check_text(field, read_string(node, path, need()), where(node, path));
  }
  template <class T>
  void operator()(std::optional<T>* out) const {
    T value{};
    (*this)(&value);
    *out = std::move(value);
  }
  void operator()(uint64_t* out) const { *out = read_uint(node, path, need()); }

  void phase(std::optional<double>& out, std::string_view key) const {
    const ConfigNode* entry = node.find(key);
    if (!entry || entry->kind == ConfigNode::Kind::kNull) return;
    double value = 0;
    const std::string entry_path = join_path(path, key);
    Binder{field, *entry, entry_path}(&value);
    out = value;
  }
  void operator()(PhaseValue* out) const {
    if (node.kind != ConfigNode::Kind::kMap) {
      double value = 0;
      (*this)(&value);
      *out = {value, value};
      return;
    }
    for (const auto& [key, value] : node.entries) {
      if (key != "prefill" && key != "decode") {
        refuse_value(where(value, join_path(path, key)), "unknown key", "one of prefill, decode");
      }
    }
    phase(out->prefill, "prefill");
    phase(out->decode, "decode");
    // Nothing inside would read as "off in both phases", which a typo must not be able to say.
    if (node.entries.empty()) refuse_value(where(node, path), "no phase", need());
  }

  void operator()(std::vector<std::string>* out) const {
    out->clear();
    for (const ConfigNode& item : as_list(field, node, path)) {
      out->push_back(check_text(field, read_string(item, path, need()), where(item, path)));
    }
  }
  void operator()(std::vector<int32_t>* out) const {
    out->clear();
    for (const ConfigNode& item : as_list(field, node, path)) {
      out->push_back(read_token(field, item, path));
      check_number(field, out->back(), where(item, path), fmt::format("{}", out->back()));
    }
  }
  void operator()(std::vector<std::vector<int32_t>>* out) const {
    if (node.kind != ConfigNode::Kind::kList) refuse(node, path, need());
    out->clear();
    for (const ConfigNode& item : as_list(field, node, path)) {
      std::vector<int32_t> word;
      Binder{field, item, path}(&word);
      if (word.empty()) refuse_value(where(item, path), "an empty word", need());
      out->push_back(std::move(word));
    }
  }
  void operator()(std::map<int32_t, double>* out) const {
    if (node.kind != ConfigNode::Kind::kMap) refuse(node, path, need());
    FOVEAL_CHECK(node.entries.size() <= kMaxItems, ErrorKind::kInvalidArgument, where(node, path),
                 "got {} entries; need at most {}", node.entries.size(), kMaxItems);
    out->clear();
    for (const auto& [key, value] : node.entries) {
      const std::string entry_path = join_path(path, key);
      const int32_t token = read_token(field, ConfigNode::scalar(key, value.origin), entry_path);
      double number = 0;
      Binder{field, value, entry_path}(&number);
      (*out)[token] = number;
    }
  }

  void operator()(const std::shared_ptr<OptionGroup>& group) const {
    bind_options(*group, node, path);
  }
  void operator()(const FixedOption& fixed) const {
    if (node.kind == ConfigNode::Kind::kScalar && !fixed.accepts.empty() &&
        (node.text == fixed.accepts || (!fixed.also.empty() && node.text == fixed.also))) {
      return;
    }
    refuse_value(where(node, path), shown(node),
                 fixed.accepts.empty() ? fmt::format("no such key: {}", fixed.why)
                                       : fmt::format("{}: {}", fixed.accepts, fixed.why));
  }
  void operator()(const CustomOption& custom) const { custom.bind(node, path); }
};

std::string names_of(const OptionGroup& group) {
  std::string out;
  for (const OptionField& field : group.fields) {
    // What only exists to be answered is no advice.
    const auto* fixed = std::get_if<FixedOption>(&field.target);
    if (fixed && (fixed->accepts.empty() || !fixed->listed)) continue;
    if (!out.empty()) out += ", ";
    out += field.name;
  }
  return out;
}

void run_check(const OptionGroup& group, const ConfigNode* node, const std::string& path) {
  if (!group.check) return;
  const std::optional<Complaint> complaint = group.check();
  if (!complaint) return;
  const std::string field_path = join_path(path, complaint->field);
  std::string at = field_path;
  if (node) {
    const ConfigNode* entry = nullptr;
    const OptionField* field = group.find(complaint->field);
    for (const auto& [key, value] : node->entries) {
      if (field && group.find(key) == field) entry = &value;
    }
    at = where(entry ? *entry : *node, field_path);
  }
  fail(ErrorKind::kInvalidArgument, at, "{}", complaint->text);
}

struct Validator {
  const OptionField& field;
  const std::string& path;

  void operator()(const int64_t* value) const {
    check_number(field, static_cast<double>(*value), path, fmt::format("{}", *value));
  }
  void operator()(const double* value) const {
    check_number(field, *value, path, fmt::format("{}", *value));
  }
  void operator()(const std::string* value) const {
    const std::string meant = check_text(field, *value, path);
    if (meant != *value) {  // code spells values one way; only files have synonyms
      refuse_value(path, fmt::format("'{}'", *value), fmt::format("'{}'", meant));
    }
  }
  template <class T>
  void operator()(std::optional<T>* value) const {
    if (*value) (*this)(&**value);
  }
  void operator()(const PhaseValue* value) const {
    const std::string prefill = join_path(path, "prefill");
    const std::string decode = join_path(path, "decode");
    if (value->prefill) Validator{field, prefill}(&*value->prefill);
    if (value->decode) Validator{field, decode}(&*value->decode);
  }
  void operator()(const std::map<int32_t, double>* value) const {
    for (const auto& [key, number] : *value) (*this)(&number);
  }
  void operator()(const std::vector<int32_t>* value) const {
    for (const int32_t number : *value) {
      check_number(field, number, path, fmt::format("{}", number));
    }
  }
  void operator()(const std::shared_ptr<OptionGroup>& group) const {
    validate_options(*group, path);
  }
  void operator()(const CustomOption& custom) const { custom.validate(path); }
  // Their types leave nothing to get wrong here.
  void operator()(const bool*) const {}
  void operator()(const uint64_t*) const {}
  void operator()(const std::vector<std::string>*) const {}
  void operator()(const std::vector<std::vector<int32_t>>*) const {}
  void operator()(const FixedOption&) const {}
};

}  // namespace

const OptionField* OptionGroup::find(std::string_view name) const {
  for (const OptionField& field : fields) {
    if (field.name == name ||
        std::find(field.also.begin(), field.also.end(), name) != field.also.end()) {
      return &field;
    }
  }
  return nullptr;
}

void bind_options(const OptionGroup& group, const ConfigNode& node, const std::string& path) {
  if (node.kind != ConfigNode::Kind::kNull && node.kind != ConfigNode::Kind::kMap) {
    refuse(node, path, fmt::format("a mapping with keys among {}", names_of(group)));
  }
  std::map<const OptionField*, std::string_view> seen;
  for (const auto& [key, value] : node.entries) {
    const std::string field_path = join_path(path, key);
    const OptionField* field = group.find(key);
    FOVEAL_CHECK(field, ErrorKind::kInvalidArgument, where(value, field_path),
                 "got unknown key; need one of {}", names_of(group));
    const auto [first, is_new] = seen.emplace(field, key);
    FOVEAL_CHECK(is_new, ErrorKind::kInvalidArgument, where(value, field_path),
                 "got both {} and {}, which are one field; need one of them", first->second, key);
    if (value.kind == ConfigNode::Kind::kNull) continue;
    std::visit(Binder{*field, value, field_path}, field->target);
  }
  run_check(group, &node, path);
}

void validate_options(const OptionGroup& group, const std::string& path) {
  for (const OptionField& field : group.fields) {
    const std::string field_path = join_path(path, field.name);
    std::visit(Validator{field, field_path}, field.target);
  }
  run_check(group, nullptr, path);
}

}  // namespace foveal

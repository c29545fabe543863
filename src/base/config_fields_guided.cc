// The four fields that fill SamplingParams::guided, of which a request has at most one.
#include "base/check.h"
#include "base/config_fields.h"
#include "base/options_scalar.h"

namespace foveal {
namespace {

using Kind = GuidedDecoding::Kind;

std::string_view field_name(Kind kind) {
  switch (kind) {
    case Kind::kRegex:
      return "guided_regex";
    case Kind::kChoice:
      return "guided_choice";
    case Kind::kGrammar:
      return "guided_grammar";
    default:
      return "guided_json";
  }
}

std::vector<std::string> texts(const ConfigNode& node, const std::string& path,
                               std::string_view need) {
  if (node.kind != ConfigNode::Kind::kList) return {read_string(node, path, need)};
  std::vector<std::string> out;
  for (const ConfigNode& item : node.items) out.push_back(read_string(item, path, need));
  return out;
}

void bind_guided(std::optional<GuidedDecoding>& guided, Kind kind, std::string_view need,
                 const ConfigNode& node, const std::string& path) {
  FOVEAL_CHECK(!guided || guided->kind == kind, ErrorKind::kInvalidArgument, where(node, path),
               "got it beside {}; need only one of guided_json, guided_regex, guided_choice, "
               "guided_grammar",
               field_name(guided->kind));
  std::vector<std::string> values = texts(node, path, need);
  GuidedDecoding out{.kind = kind, .text = {}, .choices = {}};
  if (kind == Kind::kChoice) {
    out.choices = std::move(values);
  } else {
    FOVEAL_CHECK(values.size() == 1, ErrorKind::kInvalidArgument, where(node, path),
                 "got {} values; need one", values.size());
    out.text = std::move(values.front());
  }
  guided = std::move(out);
}

OptionField guided_field(std::optional<GuidedDecoding>& guided, Kind kind,
                         std::string_view placeholder, std::string_view help,
                         std::string_view need) {
  CustomOption custom;
  custom.bind = [&guided, kind, need](const ConfigNode& node, const std::string& path) {
    bind_guided(guided, kind, need, node, path);
  };
  custom.validate = [](const std::string&) {};  // the tokenizer says whether it compiles
  custom.placeholder = placeholder;
  custom.flag_form = kind == Kind::kJsonSchema || kind == Kind::kGrammar
                         ? CustomOption::FlagForm::kTextOrFile
                         : CustomOption::FlagForm::kText;
  return {.name = field_name(kind), .target = std::move(custom), .help = help, .rule_text = need};
}

}  // namespace

std::vector<OptionField> describe_guided_fields(std::optional<GuidedDecoding>& guided) {
  return {
      guided_field(guided, Kind::kJsonSchema, "JSON",
                   "the text must be JSON that this schema describes; a flag takes @FILE, too",
                   "a JSON schema as text"),
      guided_field(guided, Kind::kRegex, "REGEX", "the whole text must match",
                   "a regular expression"),
      guided_field(guided, Kind::kChoice, "TEXT", "the text must be one of these; repeat the flag",
                   "a text or a list of texts"),
      guided_field(guided, Kind::kGrammar, "LARK",
                   "the text must follow this Lark grammar; a flag takes @FILE, too",
                   "a Lark grammar as text"),
  };
}

}  // namespace foveal

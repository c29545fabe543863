#include "cli_options.h"

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <algorithm>
#include <deque>
#include <exception>
#include <iterator>

#include "base/check.h"
#include "base/config_fields.h"
#include "base/log.h"
#include "base/yaml_options.h"
#include "cli_help.h"
#include "input.h"
#include "output.h"

namespace foveal::tools {
namespace {

// In the order of binding: the common flags name the file that the engine's section starts from.
enum class SectionKind : uint8_t { kCommon, kEngine, kOwn };

struct Section {
  SectionKind kind;
  std::string title;
  OptionGroup group;
  std::vector<OptionHelp> rows;
};

struct Common {
  std::string log_level = "info";
  std::vector<std::string> config;
  std::vector<std::string> set;
  bool help = false;
};

using Values = std::vector<std::string>;

bool is_switch(const OptionField& field) {
  return std::holds_alternative<bool*>(field.target) ||
         std::holds_alternative<std::optional<bool>*>(field.target);
}

CustomOption::FlagForm flag_form(const OptionField& field) {
  const auto* custom = std::get_if<CustomOption>(&field.target);
  return custom ? custom->flag_form : CustomOption::FlagForm::kYaml;
}

bool is_list(const OptionField& field) {
  return std::holds_alternative<std::vector<std::string>*>(field.target) ||
         std::holds_alternative<std::vector<int32_t>*>(field.target) ||
         flag_form(field) != CustomOption::FlagForm::kYaml;
}

// Fields whose values have structure are written in YAML on the command line too.
bool takes_yaml(const OptionField& field) {
  return std::holds_alternative<std::vector<int32_t>*>(field.target) ||
         std::holds_alternative<std::vector<std::vector<int32_t>>*>(field.target) ||
         std::holds_alternative<std::map<int32_t, double>*>(field.target) ||
         std::holds_alternative<std::optional<PhaseValue>*>(field.target) ||
         (std::holds_alternative<CustomOption>(field.target) &&
          flag_form(field) == CustomOption::FlagForm::kYaml);
}

Origin flag_origin(std::string_view flag) {
  return {.source = std::make_shared<const std::string>(flag), .line = 0, .names_field = true};
}

void set_origin(ConfigNode& node, const Origin& origin) {
  node.origin = origin;
  for (ConfigNode& item : node.items) set_origin(item, origin);
  for (auto& [key, value] : node.entries) set_origin(value, origin);
}

// `source` is what a syntax error names.
ConfigNode yaml_value(const std::string& text, const Origin& origin, const std::string& source) {
  ConfigNode node = parse_yaml(text, source);
  set_origin(node, origin);
  return node;
}

// What has alternatives of its own has no one rule, but help that lists them.
std::string wanted(const OptionField& field) {
  const std::string rule = need_text(field);
  return rule.empty() ? std::string(field.help) : rule;
}

ConfigNode flag_value(const OptionField& field, const std::string& flag, const Values& values) {
  for (const std::string& text : values) {
    // Most often a shell variable that is not set: passing over it would hide that.
    FOVEAL_CHECK(!text.empty(), ErrorKind::kInvalidArgument, flag, "got an empty value; need {}",
                 wanted(field));
  }
  Origin origin = flag_origin(flag);
  if (takes_yaml(field))
    origin.names_field = std::holds_alternative<std::vector<int32_t>*>(field.target);
  ConfigNode list;
  list.kind = ConfigNode::Kind::kList;
  list.origin = origin;
  for (const std::string& text : values) {
    const bool is_file =
        flag_form(field) == CustomOption::FlagForm::kTextOrFile && text.starts_with('@');
    ConfigNode item =
        takes_yaml(field)
            ? yaml_value(text, origin, flag)
            : ConfigNode::scalar(is_file ? read_input(text.substr(1), flag) : text, origin);
    if (item.kind == ConfigNode::Kind::kList && is_list(field)) {
      std::move(item.items.begin(), item.items.end(), std::back_inserter(list.items));
    } else {
      list.items.push_back(std::move(item));
    }
  }
  if (is_list(field)) return list;
  FOVEAL_CHECK(values.size() == 1, ErrorKind::kInvalidArgument, flag, "got {} values; need one",
               values.size());
  return std::move(list.items.front());
}

// In the words of a file that has one.
void check_no_merge(const std::string& path) {
  constexpr std::string_view kMerge = "<<";
  std::string parent;
  for (size_t begin = 0; begin <= path.size();) {
    const size_t end = std::min(path.find('.', begin), path.size());
    const std::string part = path.substr(begin, end - begin);
    FOVEAL_CHECK(part != kMerge, ErrorKind::kInvalidArgument,
                 parent.empty() ? "--set" : "--set " + parent,
                 "got merge key '<<'; need the fields themselves");
    parent = join_path(parent, part);
    begin = end + 1;
  }
}

void apply_set(ConfigNode& root, const std::string& text) {
  const size_t equals = text.find('=');
  FOVEAL_CHECK(equals != std::string::npos && equals > 0 && equals + 1 < text.size(),
               ErrorKind::kInvalidArgument, "--set",
               "got '{}'; need path=value, such as kv_cache_config.max_tokens=4096 (null: the "
               "default)",
               printable(text));
  const std::string path = text.substr(0, equals);
  check_no_merge(path);
  Origin origin = flag_origin("--set");
  origin.names_field = false;
  ConfigNode value = yaml_value(text.substr(equals + 1), origin, "--set " + path);
  value.origin = origin;
  assign_path(root, path, std::move(value));
}

OptionGroup describe_files(Common& common) {
  return {
      .fields = {{.name = "config",
                  .target = &common.config,
                  .help = "YAML file with the fields below and sparse_attention_config; the same "
                          "as --extra_llm_api_options",
                  .also = {"extra_llm_api_options"}},
                 {.name = "set",
                  .target = &common.set,
                  .help = "path=value for any field of the file, such as "
                          "kv_cache_config.max_tokens=4096; may be repeated; wins over "
                          "flags, which win over the file"}}};
}

OptionGroup describe_common(Common& common) {
  return {.fields = {
              {.name = "log_level",
               .target = &common.log_level,
               .help = "what to write to standard error",
               .choices = {"error", "warn", "info", "debug"}},
              {.name = "help", .target = &common.help, .help = "print this", .short_flag = 'h'}}};
}

// Whole flags of TensorRT-LLM's programs for fields that have another prefix here.
constexpr std::pair<std::string_view, std::string_view> kWholeSynonyms[]{
    {"--kv-free-memory-fraction", "kv-cache-free-gpu-memory-fraction"},
    {"--kv-free-memory-fraction", "kv-cache-free-gpu-mem-fraction"}};

// `--kv-max-tokens,--kv_max_tokens,-k`: CLI11's list of spellings.
std::string spellings(const OptionHelp& row) {
  const std::string prefix = [&] {  // what the field's name left of its flag
    const std::string own = flag_name({}, row.field->name).substr(2);
    return row.flag.substr(2, row.flag.size() - 2 - own.size());
  }();
  std::string out;
  const auto add = [&](std::string name, const char* before) {
    out += fmt::format("{}{}--{}", out.empty() ? "" : ",", before, name);
    std::string underscored = name;
    std::replace(underscored.begin(), underscored.end(), '-', '_');
    if (underscored != name) out += fmt::format(",{}--{}", before, underscored);
  };
  add(row.flag.substr(2), "");
  for (const std::string_view name : row.field->also) {
    add(fmt::format("{}{}", prefix, flag_name({}, name).substr(2)), "");
  }
  for (const auto& [flag, synonym] : kWholeSynonyms) {
    if (row.flag == flag) add(std::string(synonym), "");
  }
  if (is_switch(*row.field)) add(fmt::format("no-{}", row.flag.substr(2)), "!");
  if (row.field->short_flag != 0) out += fmt::format(",-{}", row.field->short_flag);
  return out;
}

}  // namespace

struct Command::Impl {
  struct Flag {
    CLI::Option* option = nullptr;
    Section* section = nullptr;
    const OptionHelp* row = nullptr;
  };

  std::string name;
  std::string summary;
  Common common;
  std::deque<Section> sections;  // flags point at them
  std::vector<Flag> flags;
  CLI::App app;

  CLI::Option* add_values(const std::string& names) {
    // No bracket or comma splitting: a stop text may be "[a,b]".
    return app.add_option(names, [](const CLI::results_t&) { return true; })
        ->type_size(1)
        ->expected(1)
        ->allow_extra_args(false)
        ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  }

  void add_section(SectionKind kind, std::string title, OptionGroup group) {
    Section& section = sections.emplace_back(Section{kind, std::move(title), std::move(group), {}});
    section.rows = describe_options(section.group);
    for (const OptionHelp& row : section.rows) {
      if (row.flag.empty()) continue;
      try {
        CLI::Option* option =
            is_switch(*row.field) ? app.add_flag(spellings(row)) : add_values(spellings(row));
        flags.push_back({option, &section, &row});
      } catch (const CLI::Error& error) {
        fail(ErrorKind::kInternal, "cli", "got flag {} twice in '{}' ({}); need distinct flags",
             row.flag, name, error.what());
      }
    }
  }

  std::vector<std::string> flag_names() const {
    std::vector<std::string> names;
    for (const Flag& flag : flags) names.push_back(flag.row->flag);
    return names;
  }

  [[noreturn]] void refuse_extra(const std::string& arg) const {
    const std::string word = arg.substr(0, arg.find('='));
    const std::string near = word.starts_with("--") ? nearest(word, flag_names()) : std::string();
    const std::string need = !near.empty()           ? near
                             : word.starts_with("-") ? "a known flag"
                                                     : "flags only";
    fail(ErrorKind::kInvalidArgument, "cli", "got '{}'; need {} (see foveal {} --help)",
         printable(word), need, name);
  }

  /// False when help is asked for, which must not need the other arguments to be right.
  bool tokenize(std::span<const std::string> args) {
    std::vector<std::string> reversed(args.rbegin(), args.rend());  // as CLI11 wants them
    try {
      app.parse(reversed);
    } catch (const CLI::ParseError& error) {
      refuse_parse(error);
    }
    for (const Flag& flag : flags) {
      if (flag.row->flag == "--help" && !flag.option->empty()) return false;
    }
    const std::vector<std::string> extra = app.remaining();
    if (!extra.empty()) refuse_extra(extra.front());
    return true;
  }

  [[noreturn]] void refuse_parse(const CLI::ParseError& error) const {
    const std::string text = error.what();
    const std::string word = text.substr(0, text.find(':'));
    for (const Flag& flag : flags) {
      if (word != flag.row->flag) continue;
      fail(ErrorKind::kInvalidArgument, word, "got no value; need {}", wanted(*flag.row->field));
    }
    fail(ErrorKind::kInvalidArgument, "cli",
         "got arguments with an error ({}); need those of foveal {} --help", text, name);
  }

  void bind(Section& section) {
    ConfigNode root = ConfigNode::map();
    if (section.kind == SectionKind::kEngine && !common.config.empty()) {
      FOVEAL_CHECK(common.config.size() == 1, ErrorKind::kInvalidArgument, "--config",
                   "got {} files; need one", common.config.size());
      root = load_yaml(common.config.front());
      FOVEAL_CHECK(root.kind == ConfigNode::Kind::kMap || root.kind == ConfigNode::Kind::kNull,
                   ErrorKind::kInvalidArgument, where(root, ""), "got {}; need a mapping of fields",
                   shown(root));
      bind_options(section.group, root);  // the file must be right by itself, whatever overrides it
    }
    for (const Flag& flag : flags) {
      if (flag.section != &section || flag.option->empty()) continue;
      assign_path(root, flag.row->path,
                  flag_value(*flag.row->field, flag.row->flag, flag.option->results()));
    }
    if (section.kind == SectionKind::kEngine) {
      for (const std::string& text : common.set) apply_set(root, text);
    }
    bind_options(section.group, root);
  }

  void check_required() const {
    for (const Flag& flag : flags) {
      const auto* text = std::get_if<std::string*>(&flag.row->field->target);
      if (!flag.row->field->required || (text && !(*text)->empty())) continue;
      if (!text && !flag.option->empty()) continue;
      fail(ErrorKind::kInvalidArgument, "cli", "got no {}; need {}", flag.row->flag,
           flag.row->field->help);
    }
  }
};

Command::Command(std::string name, std::string summary) : impl_(std::make_unique<Impl>()) {
  impl_->name = std::move(name);
  impl_->summary = std::move(summary);
  impl_->app.set_help_flag();
  impl_->app.allow_extras();
  impl_->add_section(SectionKind::kCommon, "General", describe_common(impl_->common));
}

Command::~Command() = default;

void Command::options(std::string title, OptionGroup group) {
  impl_->add_section(SectionKind::kOwn, std::move(title), std::move(group));
}

void Command::llm_config(LlmConfig& config) {
  impl_->add_section(SectionKind::kCommon, "Configuration", describe_files(impl_->common));
  impl_->add_section(
      SectionKind::kEngine,
      "Model and engine (in YAML and --set with underscores; --kv-* are kv_cache_config.*)",
      describe(config));
}

bool Command::parse(std::span<const std::string> args) {
  if (parse_help(args)) return false;
  for (const SectionKind kind : {SectionKind::kCommon, SectionKind::kEngine, SectionKind::kOwn}) {
    for (Section& section : impl_->sections) {
      if (section.kind == kind) impl_->bind(section);
    }
  }
  impl_->check_required();
  set_log_level(parse_log_level(impl_->common.log_level));
  return true;
}

bool Command::parse_help(std::span<const std::string> args) {
  if (impl_->tokenize(args)) return false;
  write_out(help());
  return true;
}

size_t Command::find_word(std::span<const std::string> args) const {
  size_t at = 0;
  while (at < args.size() && args[at].starts_with('-')) {
    const std::string word = args[at].substr(0, args[at].find('='));
    const auto found =
        std::find_if(impl_->flags.begin(), impl_->flags.end(),
                     [&](const Impl::Flag& flag) { return flag.option->check_name(word); });
    if (found == impl_->flags.end()) impl_->refuse_extra(args[at]);
    const bool alone = is_switch(*found->row->field) || word.size() < args[at].size();
    at += alone ? 1 : 2;
  }
  return std::min(at, args.size());
}

std::vector<std::pair<std::string, std::vector<std::string>>> Command::given() const {
  std::vector<std::pair<std::string, std::vector<std::string>>> out;
  for (const Impl::Flag& flag : impl_->flags) {
    if (!flag.option->empty()) out.emplace_back(flag.row->flag, flag.option->results());
  }
  return out;
}

std::string Command::given(std::string_view flag) const {
  for (const auto& [name, values] : given()) {
    if (name == flag && !values.empty()) return values.front();
  }
  return "";
}

std::string Command::help() const {
  std::string out = fmt::format("foveal {}: {}\n\nusage: foveal {} [flags]\n", impl_->name,
                                impl_->summary, impl_->name);
  const auto add = [&out](const std::string& title, const std::string& rows) {
    if (!rows.empty()) out += fmt::format("\n{}:\n{}", title, rows);
  };
  const std::deque<Section>& sections = impl_->sections;
  // The general flags come last though they were first: they are the least interesting.
  for (size_t idx = 1; idx < sections.size(); ++idx) {
    add(sections[idx].title, help_flags(sections[idx].rows));
  }
  add(sections[0].title, help_flags(sections[0].rows));
  for (const Section& section : sections) {
    add("Only in YAML and --set", help_yaml_only(section.rows));
  }
  return out;
}

OptionGroup describe_single(SamplingParams& sampling) {
  OptionGroup group = describe(sampling);
  for (OptionField& field : group.fields) {
    if (field.name != "n") continue;
    field.range = {.min = 1, .max = 1};
    field.rule_text = "1: one completion is shown";
  }
  return group;
}

}  // namespace foveal::tools

// The table of fields (src/base/config_fields.h) as Python's configuration classes use it: what
// there is, and what a dict of values means.
#include <nanobind/stl/string.h>

#include "base/check.h"
#include "base/config_fields.h"
#include "bind.h"

namespace foveal::python {
namespace {

template <class Config>
std::shared_ptr<OptionGroup> table() {
  struct Held {
    Config config;
    OptionGroup group = describe(config);
  };
  auto held = std::make_shared<Held>();
  return {held, &held->group};
}

std::shared_ptr<OptionGroup> table_of(const std::string& kind) {
  if (kind == "llm") return table<LlmConfig>();
  if (kind == "kv_cache") return table<KvCacheConfig>();
  if (kind == "cuda_graph") return table<CudaGraphConfig>();
  if (kind == "sampling") return table<SamplingParams>();
  if (kind == "sparse_override") return table<SparseOverride>();
  if (kind == "scheduler") return std::make_shared<OptionGroup>(describe_scheduler());
  if (kind == "trtllm_sampling") {
    return std::make_shared<OptionGroup>(OptionGroup{.fields = trtllm_sampling_fields()});
  }
  std::vector<SparseAttentionConfig> none;
  const OptionField sparse = describe_sparse_field(none);
  for (const auto& [algorithm, group] : std::get<CustomOption>(sparse.target).alternatives) {
    if (algorithm == kind) return group;
  }
  fail(ErrorKind::kInvalidArgument, "kind", "got '{}'; need the name of a table", kind);
}

nb::str text(std::string_view value) { return nb::str(value.data(), value.size()); }

struct TypeName {
  std::string operator()(const bool*) const { return "bool"; }
  std::string operator()(const int64_t*) const { return "int"; }
  std::string operator()(const uint64_t*) const { return "int"; }
  std::string operator()(const double*) const { return "float"; }
  std::string operator()(const std::string*) const { return "str"; }
  std::string operator()(const PhaseValue*) const { return "float | dict[str, float]"; }
  std::string operator()(const std::vector<std::string>*) const { return "str | list[str]"; }
  std::string operator()(const std::vector<int32_t>*) const { return "int | list[int]"; }
  std::string operator()(const std::vector<std::vector<int32_t>>*) const {
    return "list[list[int]]";
  }
  std::string operator()(const std::map<int32_t, double>*) const { return "dict[int, float]"; }
  template <class T>
  std::string operator()(const std::optional<T>*) const {
    return (*this)(static_cast<const T*>(nullptr)) + " | None";
  }
  std::string operator()(const CustomOption&) const { return "float"; }
  std::string operator()(const std::shared_ptr<OptionGroup>&) const { return "Any"; }
  std::string operator()(const FixedOption&) const { return "Any"; }
};

nb::list fields(const std::string& kind) {
  const std::shared_ptr<OptionGroup> group = table_of(kind);
  if (group->check) group->check();  // settles what is absent but has a number
  nb::list out;
  for (const OptionField& field : group->fields) {
    nb::dict row;
    const auto* fixed = std::get_if<FixedOption>(&field.target);
    nb::list also;
    for (const std::string_view name : field.also) also.append(text(name));
    row["name"] = text(field.name);
    row["default"] = value_of(field);
    row["type"] = std::visit([](const auto& target) { return TypeName{}(target); }, field.target);
    row["help"] = text(fixed ? fixed->why : field.help);
    row["need"] = need_text(field);
    row["also"] = also;
    row["fixed"] = fixed != nullptr;
    out.append(row);
  }
  return out;
}

nb::dict bind(const std::string& kind, const nb::dict& values, const std::string& path) {
  const std::shared_ptr<OptionGroup> group = table_of(kind);
  bind_options(*group, to_node(values), path);
  return values_of(*group);
}

GuidedDecoding guided_from(const nb::dict& guided) {
  const auto kind = nb::cast<std::string>(guided["kind"]);
  GuidedDecoding out;
  using Kind = GuidedDecoding::Kind;
  for (const auto& [name, value] : {std::pair{"json_object", Kind::kJsonObject},
                                    {"json", Kind::kJsonSchema},
                                    {"regex", Kind::kRegex},
                                    {"choice", Kind::kChoice},
                                    {"grammar", Kind::kGrammar}}) {
    if (kind == name) out.kind = value;
  }
  if (out.kind != Kind::kChoice) out.text = nb::cast<std::string>(guided["text"]);
  if (out.kind == Kind::kChoice) {
    for (const nb::handle choice : nb::list(guided["text"])) {
      out.choices.push_back(nb::cast<std::string>(choice));
    }
  }
  return out;
}

}  // namespace

SamplingParams sampling_from(nb::handle values, nb::handle guided) {
  SamplingParams out;
  bind_options(describe(out), to_node(values), "SamplingParams");
  if (!guided.is_none()) out.guided = guided_from(nb::borrow<nb::dict>(guided));
  return out;
}

RequestOptions options_from(nb::handle sparse_attention, std::string cache_salt) {
  RequestOptions out{.cache_salt = std::move(cache_salt)};
  if (sparse_attention.is_none()) return out;
  out.sparse_attention.emplace();
  bind_options(describe(*out.sparse_attention), to_node(sparse_attention), "sparse_attention");
  return out;
}

void bind_config(nb::module_& module) {
  module.def("fields", &fields, nb::arg("kind"), "The rows of one table.");
  module.def("bind", &bind, nb::arg("kind"), nb::arg("values"), nb::arg("path"),
             "Checks values against a table and returns all of its fields.");
}

}  // namespace foveal::python

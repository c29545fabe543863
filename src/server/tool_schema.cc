// What tool_choice "required" or a named function lets a text be.
#include "base/check.h"
#include "server/tool_calls.h"

namespace foveal::server {
namespace {

namespace json = boost::json;

/// Each tool's parameters move below the root; so do the places that their references name.
void move_references(json::value& schema, const std::string& root) {
  if (json::array* list = schema.if_array()) {
    for (json::value& item : *list) move_references(item, root);
  }
  json::object* object = schema.if_object();
  if (object == nullptr) return;
  for (auto& [key, value] : *object) {
    const bool is_reference = key == "$ref" && value.is_string();
    if (!is_reference) {
      move_references(value, root);
    } else if (value.get_string().starts_with('#')) {
      std::string path(value.get_string().subview(1));
      value = root + (path == "/" ? "" : path);
    }
  }
}

const json::object& function_of(const json::value& tool) {
  const json::object* outer = tool.if_object();
  const json::value* function = outer ? outer->if_contains("function") : nullptr;
  const json::object* object = function ? function->if_object() : outer;
  const json::value* name = object ? object->if_contains("name") : nullptr;
  FOVEAL_CHECK(name != nullptr && name->is_string(), ErrorKind::kInvalidArgument, "tools",
               "got a tool without a function's name; need one in each");
  return *object;
}

json::object schema_of(const json::array& tools, const std::optional<std::string>& name,
                       std::string_view arguments_key) {
  json::array options;
  json::object definitions;
  for (const json::value& tool : tools) {
    const json::object& function = function_of(tool);
    const json::string& own = function.at("name").get_string();
    if (name && std::string_view(own) != *name) continue;
    json::value parameters = json::object{{"type", "object"}};
    if (const json::value* given = function.if_contains("parameters")) {
      if (!given->is_null()) parameters = *given;
    }
    const std::string key = "tool" + std::to_string(definitions.size());
    move_references(parameters, "#/$defs/" + key);
    definitions[key] = std::move(parameters);
    json::object properties{{"name", {{"const", own}}},
                            {arguments_key, {{"$ref", "#/$defs/" + key}}}};
    options.push_back(json::object{{"type", "object"},
                                   {"properties", std::move(properties)},
                                   {"required", {"name", arguments_key}},
                                   {"additionalProperties", false}});
  }
  FOVEAL_CHECK(!options.empty(), ErrorKind::kInvalidArgument, "tool_choice",
               "got '{}'; need one of the request's tools", name.value_or("required"));
  return {{"anyOf", std::move(options)}, {"$defs", std::move(definitions)}};
}

}  // namespace

GuidedDecoding guided_tool_call(ToolForm form, const json::array& tools,
                                const std::optional<std::string>& name) {
  const bool llama = form == ToolForm::kLlama || form == ToolForm::kNone;
  json::object call = schema_of(tools, name, llama ? "parameters" : "arguments");
  GuidedDecoding out{.kind = GuidedDecoding::Kind::kJsonSchema, .text = {}, .choices = {}};
  if (form == ToolForm::kMistral) {
    json::value definitions = std::move(call.at("$defs"));
    call.erase("$defs");
    call = {{"type", "array"},
            {"minItems", 1},
            {"maxItems", 1},
            {"items", std::move(call)},
            {"$defs", std::move(definitions)}};
  }
  out.text = json::serialize(call);
  if (form == ToolForm::kHermes) {
    out.kind = GuidedDecoding::Kind::kGrammar;
    out.text = "start: \"<tool_call>\\n\" %json " + out.text + " \"\\n</tool_call>\"\n";
  }
  return out;
}

}  // namespace foveal::server

#include "server/tools_read.h"

#include <boost/json/serialize.hpp>

#include "base/check.h"

namespace foveal::server {
namespace json = boost::json;
namespace {

constexpr size_t kMaxTools = 256;

void check_tool(const json::value& tool, const std::string& path) {
  FOVEAL_CHECK(tool.is_object(), ErrorKind::kInvalidArgument, path, "got {}; need an object",
               shown(tool));
  JsonReader reader(tool.get_object(), path);
  if (reader.need_text("type") != "function") reader.wrong("type", "function");
  const json::object* function = reader.object("function");
  if (function == nullptr) reader.wrong("function", "an object");
  JsonReader inner(*function, reader.path("function"));
  inner.need_text("name");
  inner.text("description");
  inner.object("parameters");
  inner.flag("strict");
  inner.finish();
  reader.finish();
}

/// What `tool_choice` asks for.
struct Choice {
  bool none = false;
  bool required = false;
  std::optional<std::string> name;
};

Choice read_choice(JsonReader& reader) {
  const json::value* value = reader.find("tool_choice");
  if (value == nullptr || value->is_null()) return {};
  if (value->is_object()) {
    JsonReader named(value->get_object(), "tool_choice");
    if (named.need_text("type") != "function") named.wrong("type", "function");
    const json::object* function = named.object("function");
    if (function == nullptr) named.wrong("function", "an object");
    JsonReader inner(*function, named.path("function"));
    Choice choice{.required = true, .name = inner.need_text("name")};
    inner.finish();
    named.finish();
    return choice;
  }
  const std::string text = reader.text("tool_choice").value_or("auto");
  if (text != "none" && text != "auto" && text != "required") {
    reader.wrong("tool_choice", "none, auto, required, or a function");
  }
  return {.none = text == "none", .required = text == "required"};
}

}  // namespace

OfferedTools read_tools(JsonReader& reader, std::string_view chat_template, Call& call) {
  const json::array* tools = reader.list("tools", kMaxTools);
  const Choice choice = read_choice(reader);
  reader.only_flag("parallel_tool_calls", true, "the model decides how many it calls");
  for (size_t idx = 0; tools != nullptr && idx < tools->size(); ++idx) {
    check_tool((*tools)[idx], fmt::format("tools.{}", idx));
  }
  const bool any = tools != nullptr && !tools->empty();
  FOVEAL_CHECK(any || !choice.required, ErrorKind::kInvalidArgument, "tool_choice",
               "got a call that is required, and no tools; need tools");
  if (!any || choice.none) return {};
  const ToolForm own = tool_form(chat_template);
  call.tool_form = own == ToolForm::kNone ? ToolForm::kHermes : own;
  if (choice.required) {
    FOVEAL_CHECK(!call.sampling.guided, ErrorKind::kInvalidArgument, "tool_choice",
                 "got a required call and another guide for the answer; need one of them");
    call.sampling.guided = guided_tool_call(call.tool_form, *tools, choice.name);
  }
  return {.tools = tools, .in_template = own != ToolForm::kNone};
}

void offer_tools(const OfferedTools& offered, json::array& messages, json::object& extra) {
  if (offered.tools == nullptr) return;
  if (offered.in_template) {
    extra["tools"] = *offered.tools;
    return;
  }
  std::string text = "You may call functions. Their signatures, one JSON object a line:\n<tools>\n";
  for (const json::value& tool : *offered.tools) text += json::serialize(tool) + "\n";
  text +=
      "</tools>\nTo call one, answer with its name and arguments as JSON between these tags:\n"
      "<tool_call>\n{\"name\": ..., \"arguments\": {...}}\n</tool_call>";
  const bool system = !messages.empty() && messages.front().is_object() &&
                      messages.front().at("role") == "system" &&
                      messages.front().as_object().contains("content");
  if (!system) {
    messages.insert(messages.begin(), json::object{{"role", "system"}, {"content", text}});
    return;
  }
  json::value& content = messages.front().at("content");
  content = json::string(std::string(content.as_string()) + "\n\n" + text);
}

}  // namespace foveal::server

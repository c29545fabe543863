#include "server/messages.h"

#include "base/check.h"
#include "server/json_read.h"

namespace foveal::server {
namespace json = boost::json;
namespace {

std::string read_part(const json::value& part, const std::string& path) {
  FOVEAL_CHECK(part.is_object(), ErrorKind::kInvalidArgument, path, "got {}; need an object",
               shown(part));
  JsonReader reader(part.get_object(), path);
  const std::string type = reader.need_text("type");
  FOVEAL_CHECK(type == "text" || type == "input_text" || type == "output_text",
               ErrorKind::kUnsupported, reader.path("type"), "got {}; need text",
               shown(part.get_object().at("type")));
  std::string text = reader.need_text("text");
  reader.ignore({"annotations", "logprobs"});  // of answers that are sent back
  reader.finish();
  return text;
}

/// OpenAI writes arguments as text, templates expect what the text says.
json::value read_arguments(JsonReader& reader) {
  const json::value* value = reader.find("arguments");
  if (value != nullptr && value->is_object()) return *value;
  const std::string text = reader.need_text("arguments");
  try {
    return parse_body(text.empty() ? "{}" : text);
  } catch (const Error&) {
    reader.wrong("arguments", "a JSON object, as text");
  }
}

json::array read_tool_calls(const json::array& calls, const std::string& path) {
  json::array out;
  for (size_t idx = 0; idx < calls.size(); ++idx) {
    const std::string where = fmt::format("{}.{}", path, idx);
    FOVEAL_CHECK(calls[idx].is_object(), ErrorKind::kInvalidArgument, where,
                 "got {}; need an object", shown(calls[idx]));
    JsonReader reader(calls[idx].get_object(), where);
    json::object call{{"type", "function"}};
    if (const auto id = reader.text("id")) call["id"] = *id;
    if (reader.text("type").value_or("function") != "function") reader.wrong("type", "function");
    const json::object* function = reader.object("function");
    if (function == nullptr) reader.wrong("function", "an object");
    JsonReader inner(*function, reader.path("function"));
    const std::string name = inner.need_text("name");
    call["function"] = json::object{{"name", name}, {"arguments", read_arguments(inner)}};
    inner.finish();
    reader.ignore({"index"});
    reader.finish();
    out.push_back(std::move(call));
  }
  return out;
}

json::object read_message(const json::object& message, const std::string& path) {
  JsonReader reader(message, path);
  std::string role = reader.need_text("role");
  if (role == "developer") role = "system";
  if (role != "system" && role != "user" && role != "assistant" && role != "tool") {
    reader.wrong("role", "one of system, developer, user, assistant, tool");
  }
  json::object out{{"role", role}};
  const json::value* content = reader.find("content");
  const json::array* calls = reader.list("tool_calls", 1024);
  FOVEAL_CHECK(calls == nullptr || role == "assistant", ErrorKind::kInvalidArgument,
               reader.path("tool_calls"), "got it from role {}; need assistant", role);
  if (content == nullptr && calls == nullptr) {
    reader.wrong("content", "a string or a list of text parts");
  }
  out["content"] = content == nullptr ? "" : read_content(*content, reader.path("content"));
  if (calls != nullptr) out["tool_calls"] = read_tool_calls(*calls, reader.path("tool_calls"));
  for (const char* name : {"name", "tool_call_id", "reasoning_content"}) {
    if (const auto text = reader.text(name)) out[name] = *text;
  }
  for (const char* name : {"refusal", "audio", "function_call"}) {
    if (reader.find(name) != nullptr) reader.wrong(name, "null");
  }
  reader.finish();
  return out;
}

}  // namespace

std::string read_content(const json::value& content, const std::string& path) {
  if (content.is_string()) return std::string(content.get_string());
  FOVEAL_CHECK(content.is_array(), ErrorKind::kInvalidArgument, path,
               "got {}; need a string or a list of text parts", shown(content));
  std::string out;
  const json::array& parts = content.get_array();
  for (size_t idx = 0; idx < parts.size(); ++idx) {
    out += read_part(parts[idx], fmt::format("{}.{}", path, idx));
  }
  return out;
}

json::array read_messages(const json::array& messages, const std::string& path) {
  FOVEAL_CHECK(!messages.empty(), ErrorKind::kInvalidArgument, path,
               "got no messages; need at least one");
  json::array out;
  for (size_t idx = 0; idx < messages.size(); ++idx) {
    const std::string where = fmt::format("{}.{}", path, idx);
    FOVEAL_CHECK(messages[idx].is_object(), ErrorKind::kInvalidArgument, where,
                 "got {}; need an object", shown(messages[idx]));
    out.push_back(read_message(messages[idx].get_object(), where));
  }
  return out;
}

}  // namespace foveal::server

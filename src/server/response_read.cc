#include <boost/json/serialize.hpp>

#include "base/check.h"
#include "server/errors.h"
#include "server/messages.h"
#include "server/sampling_read.h"

namespace foveal::server {
namespace json = boost::json;
namespace {

constexpr size_t kMaxItems = 65536;

/// The input items as chat messages. Items other than messages belong to tools, which this route
/// does not have.
json::array messages_of(const json::array& items) {
  json::array out;
  for (size_t idx = 0; idx < items.size(); ++idx) {
    const std::string where = fmt::format("input.{}", idx);
    FOVEAL_CHECK(items[idx].is_object(), ErrorKind::kInvalidArgument, where,
                 "got {}; need an object", shown(items[idx]));
    json::object message = items[idx].get_object();
    JsonReader reader(message, where);
    const std::string type = reader.text("type").value_or("message");
    FOVEAL_CHECK(type == "message", ErrorKind::kUnsupported, where + ".type",
                 "got {}; need message", shown(json::value(type)));
    for (const char* name : {"type", "id", "status"}) message.erase(name);
    out.push_back(std::move(message));
  }
  return read_messages(out, "input");
}

json::array read_input(JsonReader& reader) {
  json::array messages;
  if (const auto instructions = reader.text("instructions")) {
    messages.push_back(json::object{{"role", "system"}, {"content", *instructions}});
  }
  const json::value* input = reader.find("input");
  if (input == nullptr) reader.wrong("input", "a string or a list of messages");
  if (input->is_string()) {
    messages.push_back(json::object{{"role", "user"}, {"content", *input}});
    return messages;
  }
  for (json::value& message : messages_of(*reader.list("input", kMaxItems))) {
    messages.push_back(std::move(message));
  }
  return messages;
}

void read_text_format(JsonReader& reader, Call& call) {
  const json::object* text = reader.object("text");
  if (text == nullptr) return;
  JsonReader fields(*text, "text");
  if (const json::object* format = fields.object("format")) {
    if (auto guided = read_format(*format, "text.format")) {
      FOVEAL_CHECK(!call.sampling.guided, ErrorKind::kInvalidArgument, "text.format",
                   "got a second form to follow; need one");
      call.sampling.guided = std::move(guided);
    }
  }
  fields.finish();
}

/// What OpenAI's route does and this one, which keeps nothing, does not.
void refuse_state(JsonReader& reader) {
  reader.only_flag("background", false, "answers are made while the client waits");
  for (const char* name : {"previous_response_id", "conversation", "prompt", "reasoning"}) {
    if (reader.find(name) != nullptr) reader.wrong(name, "null (nothing is kept between requests)");
  }
  if (const json::array* tools = reader.list("tools", kMaxItems); tools != nullptr) {
    FOVEAL_CHECK(tools->empty(), ErrorKind::kUnsupported, "tools",
                 "got {} tools; need none (see /v1/chat/completions)", tools->size());
  }
  if (const json::array* include = reader.list("include", kMaxItems); include != nullptr) {
    FOVEAL_CHECK(include->empty(), ErrorKind::kUnsupported, "include", "got {} items; need none",
                 include->size());
  }
  if (reader.text("truncation").value_or("disabled") != "disabled") {
    reader.wrong("truncation", "disabled (prompts are never cut)");
  }
  reader.ignore({"tool_choice", "parallel_tool_calls", "max_tool_calls"});  // of no tools
}

}  // namespace

Call read_response(const json::object& body, const ReadContext& context) {
  JsonReader reader(body);
  Call call;
  call.id = new_id("resp_");
  read_sampling(reader, context, call);
  if (call.sampling.n != 1) reader.wrong("n", "1");
  read_stream(reader, call);
  read_text_format(reader, call);
  refuse_state(reader);
  const auto max_tokens = reader.integer("max_output_tokens", 1, INT32_MAX);
  reader.ignore({"input", "instructions"});
  reader.finish();
  call.prompts.push_back(context.llm.chat_token_ids(json::serialize(read_input(reader))));
  call.prompt_texts.emplace_back();
  call.sampling.max_tokens = max_tokens.value_or(room_after(call, context.llm));
  return call;
}

}  // namespace foveal::server

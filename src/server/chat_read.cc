#include <boost/json/serialize.hpp>

#include "base/check.h"
#include "server/errors.h"
#include "server/messages.h"
#include "server/sampling_read.h"
#include "server/tools_read.h"

namespace foveal::server {
namespace json = boost::json;
namespace {

constexpr size_t kMaxMessages = 65536;

/// Template variables besides the messages.
json::object read_extra(JsonReader& reader) {
  json::object extra;
  if (const json::object* variables = reader.object("chat_template_kwargs")) {
    for (const char* name :
         {"messages", "add_generation_prompt", "tools", "bos_token", "eos_token"}) {
      FOVEAL_CHECK(!variables->contains(name), ErrorKind::kInvalidArgument, "chat_template_kwargs",
                   "got {}; need variables that the server does not set", name);
    }
    extra = *variables;
  }
  return extra;
}

void read_logprobs(JsonReader& reader, const ReadContext& context, SamplingParams& sampling) {
  const bool wanted = reader.flag("logprobs").value_or(false);
  const auto top = reader.integer("top_logprobs", 0, context.settings.max_logprobs);
  FOVEAL_CHECK(wanted || !top, ErrorKind::kInvalidArgument, "top_logprobs",
               "got it without logprobs; need both");
  if (wanted) sampling.logprobs = top.value_or(0);
}

std::optional<int64_t> read_max_tokens(JsonReader& reader) {
  const auto newer = reader.integer("max_completion_tokens", 1, INT32_MAX);
  const auto older = reader.integer("max_tokens", 1, INT32_MAX);
  FOVEAL_CHECK(!newer || !older || newer == older, ErrorKind::kInvalidArgument, "max_tokens",
               "got {} and max_completion_tokens {}; need one of them", older.value_or(0),
               newer.value_or(0));
  return newer ? newer : older;
}

void read_modalities(JsonReader& reader) {
  for (const std::string& modality : reader.texts("modalities", 8)) {
    FOVEAL_CHECK(modality == "text", ErrorKind::kUnsupported, "modalities", "got {}; need text",
                 shown(json::value(modality)));
  }
}

}  // namespace

Call read_chat(const json::object& body, const ReadContext& context) {
  JsonReader reader(body);
  Call call;
  call.id = new_id("chatcmpl-");
  read_sampling(reader, context, call);
  read_stream(reader, call);
  read_logprobs(reader, context, call.sampling);
  read_modalities(reader);
  const auto max_tokens = read_max_tokens(reader);
  json::object extra = read_extra(reader);
  const OfferedTools offered = read_tools(reader, context.llm.chat_template(), call);
  const json::array* messages = reader.list("messages", kMaxMessages);
  const bool prompt = reader.flag("add_generation_prompt").value_or(true);
  reader.finish();
  if (messages == nullptr) reader.wrong("messages", "a list of messages");
  json::array told = read_messages(*messages, "messages");
  offer_tools(offered, told, extra);
  call.prompts.push_back(
      context.llm.chat_token_ids(json::serialize(told), json::serialize(extra), prompt));
  call.prompt_texts.emplace_back();
  call.sampling.max_tokens = max_tokens.value_or(room_after(call, context.llm));
  return call;
}

}  // namespace foveal::server

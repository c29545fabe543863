#include <boost/json/serialize.hpp>

#include "base/check.h"
#include "server/json_read.h"
#include "server/messages.h"
#include "server/routes.h"

namespace foveal::server {
namespace json = boost::json;
namespace {

constexpr size_t kMaxItems = 16 << 20;  // the body is limited anyway

std::vector<int32_t> tokens_of(JsonReader& reader, const LLM& llm) {
  const auto prompt = reader.text("prompt");
  const json::array* messages = reader.list("messages", kMaxItems);
  const bool special = reader.flag("add_special_tokens").value_or(true);
  const bool generation = reader.flag("add_generation_prompt").value_or(true);
  reader.ignore({"model"});
  reader.finish();
  if (prompt.has_value() == (messages != nullptr)) reader.wrong("prompt", "it or messages");
  if (messages != nullptr) {
    return llm.chat_token_ids(json::serialize(read_messages(*messages, "messages")), "{}",
                              generation);
  }
  return special ? llm.prompt_token_ids(*prompt) : llm.encode(*prompt);
}

}  // namespace

HttpResponse answer_tokenize(Service& service, const HttpRequest& request) {
  const json::object body = parse_body(request.body);
  JsonReader reader(body);
  const std::vector<int32_t> tokens = tokens_of(reader, service.llm());
  json::array list(tokens.begin(), tokens.end());
  return {.body = json::serialize(json::object{{"count", tokens.size()},
                                               {"max_model_len", service.llm().max_seq_len()},
                                               {"tokens", std::move(list)}})};
}

HttpResponse answer_detokenize(Service& service, const HttpRequest& request) {
  const json::object body = parse_body(request.body);
  JsonReader reader(body);
  const std::vector<int32_t> tokens = reader.ids("tokens", kMaxItems);
  if (reader.find("tokens") == nullptr) reader.wrong("tokens", "a list of token ids");
  const bool skip = reader.flag("skip_special_tokens").value_or(false);
  reader.ignore({"model"});
  reader.finish();
  const auto vocab = static_cast<int32_t>(service.llm().info().vocab_size);
  for (const int32_t token : tokens) {
    FOVEAL_CHECK(token < vocab, ErrorKind::kInvalidArgument, "tokens", "got id {}; need 0 to {}",
                 token, vocab - 1);
  }
  return {.body = json::serialize(json::object{{"prompt", service.llm().decode(tokens, skip)}})};
}

}  // namespace foveal::server

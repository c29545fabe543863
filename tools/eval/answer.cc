#include "eval/answer.h"

#include "json_writer.h"

namespace foveal::eval {

std::vector<int32_t> prompt_ids(const Speaker& speaker, const std::vector<Turn>& turns,
                                const std::string& prefix, bool chat_template) {
  if (!chat_template) {
    std::string text;
    for (const Turn& turn : turns) text += turn.text + (turn.role == "user" ? " " : "\n");
    if (prefix.empty()) text.pop_back();
    return speaker.prompt_ids(text + prefix);
  }
  tools::JsonWriter messages;
  messages.begin_array();
  if (const std::string& system = speaker.ways().system; !system.empty()) {
    messages.begin_object().field("role", "system");
    messages.field("content", std::string_view(system)).end_object();
  }
  for (const Turn& turn : turns) {
    messages.begin_object().field("role", std::string_view(turn.role));
    messages.field("content", std::string_view(turn.text)).end_object();
  }
  messages.end_array();
  std::vector<int32_t> ids = speaker.chat_ids(messages.text());
  const std::vector<int32_t> begun = speaker.encode(prefix);
  ids.insert(ids.end(), begun.begin(), begun.end());
  return ids;
}

std::string answer(const Speaker& speaker, std::vector<int32_t> prompt, int64_t max_tokens,
                   measure::ArmResult& result) {
  result.answers.push_back(speaker.answer(std::move(prompt), max_tokens, result));
  return result.answers.back();
}

}  // namespace foveal::eval

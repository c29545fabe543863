#include "eval/answer.h"

#include <algorithm>

#include "json_writer.h"

namespace foveal::eval {

void note(const RequestOutput& output, measure::ArmResult& result) {
  result.sparsity.method = output.sparsity.method;
  result.sparsity.add(output.sparsity);
  result.kv_bytes = output.memory.kv_bytes;
  result.kv_peak_bytes = std::max(result.kv_peak_bytes, output.memory.kv_peak_bytes);
}

std::vector<int32_t> prompt_ids(const LLM& llm, const std::vector<Turn>& turns,
                                const std::string& prefix, bool chat_template) {
  if (!chat_template) {
    std::string text;
    for (const Turn& turn : turns) text += turn.text + (turn.role == "user" ? " " : "\n");
    if (prefix.empty()) text.pop_back();
    return llm.prompt_token_ids(text + prefix);
  }
  tools::JsonWriter messages;
  messages.begin_array();
  for (const Turn& turn : turns) {
    messages.begin_object().field("role", std::string_view(turn.role));
    messages.field("content", std::string_view(turn.text)).end_object();
  }
  messages.end_array();
  std::vector<int32_t> ids = llm.chat_token_ids(messages.text());
  const std::vector<int32_t> begun = llm.encode(prefix);
  ids.insert(ids.end(), begun.begin(), begun.end());
  return ids;
}

std::string answer(LLM& llm, std::vector<int32_t> prompt, int64_t max_tokens,
                   measure::ArmResult& result) {
  SamplingParams sampling;
  sampling.max_tokens = max_tokens;
  const RequestOutput output = llm.generate({.token_ids = std::move(prompt)}, sampling);
  note(output, result);
  result.answers.push_back(output.outputs.at(0).text);
  return output.outputs.at(0).text;
}

}  // namespace foveal::eval

#include "server/answer_text.h"
#include "server/choices_answer.h"

namespace foveal::server {
namespace json = boost::json;
namespace {

class ChatAnswer : public ChoicesAnswer {
 public:
  ChatAnswer(const Call& call, const LLM& llm)
      : ChoicesAnswer(call, llm, "chat.completion", "chat.completion.chunk"),
        tools_(call.num_choices(), ToolCallStream(call.tool_form)),
        num_calls_(call.num_choices()) {}

  void delta(size_t, const OutputDelta& delta, std::string& out) override {
    const auto choice = static_cast<size_t>(delta.index);
    if (!begun_[choice]) {
      begun_[choice] = true;
      append(out, choice, {{"role", "assistant"}, {"content", ""}}, nullptr, nullptr);
    }
    const bool logprobs = call_.sampling.logprobs && !delta.logprobs.empty();
    const ToolCallStream::Piece piece = split(choice, delta);
    if (!piece.content.empty() || logprobs) {
      json::value rows = nullptr;
      if (logprobs) rows = logprobs_of(delta.logprobs, delta.top_logprobs);
      append(out, choice, {{"content", piece.content}}, std::move(rows), nullptr);
    }
    for (const ToolCall& tool : piece.calls) {
      json::object entry = tool_call(tool);
      entry["index"] = num_calls_[choice]++;
      append(out, choice, {{"tool_calls", json::array{std::move(entry)}}}, nullptr, nullptr);
    }
    if (delta.finish_reason != FinishReason::kNone) {
      append(out, choice, {}, nullptr, reason(delta.finish_reason, num_calls_[choice] > 0));
    }
  }

 private:
  json::array choices(const std::vector<RequestOutput>& outputs) override {
    json::array out;
    for (const CompletionOutput& completion : outputs.front().outputs) {
      json::value logprobs = nullptr;
      if (call_.sampling.logprobs) {
        logprobs = logprobs_of(completion.logprobs, completion.top_logprobs);
      }
      const ToolCallStream::Piece piece = parse_tool_calls(call_.tool_form, completion.text);
      out.push_back(
          json::object{{"index", out.size()},
                       {"message", message(piece)},
                       {"logprobs", std::move(logprobs)},
                       {"finish_reason", reason(completion.finish_reason, !piece.calls.empty())}});
    }
    return out;
  }

  /// What one more delta of a choice holds of content and of calls.
  ToolCallStream::Piece split(size_t choice, const OutputDelta& delta) {
    if (call_.tool_form == ToolForm::kNone) return {.content = delta.text, .calls = {}};
    ToolCallStream::Piece piece = tools_[choice].push(delta.text);
    if (delta.finish_reason == FinishReason::kNone) return piece;
    ToolCallStream::Piece rest = tools_[choice].finish();
    piece.content += rest.content;
    for (ToolCall& call : rest.calls) piece.calls.push_back(std::move(call));
    return piece;
  }

  static json::object tool_call(const ToolCall& call) {
    return {{"id", new_id("call_")},
            {"type", "function"},
            {"function", json::object{{"name", call.name}, {"arguments", call.arguments}}}};
  }

  static json::value reason(FinishReason reason, bool called) {
    return called && reason == FinishReason::kStop ? json::value("tool_calls")
                                                   : finish_name(reason);
  }

  static json::object message(const ToolCallStream::Piece& piece) {
    json::object out{{"role", "assistant"}, {"content", piece.content}, {"refusal", nullptr}};
    if (piece.calls.empty()) return out;
    if (piece.content.empty()) out["content"] = nullptr;
    json::array calls;
    for (const ToolCall& call : piece.calls) calls.push_back(tool_call(call));
    out["tool_calls"] = std::move(calls);
    return out;
  }

  json::object logprobs_of(const std::vector<TokenLogprob>& own,
                           const std::vector<std::vector<TokenLogprob>>& top) const {
    return chat_logprobs(llm_, rows_of(own, top), *call_.sampling.logprobs);
  }

  void append(std::string& out, size_t choice, json::object change, json::value logprobs,
              json::value reason) const {
    append_choice(out, {{"index", choice},
                        {"delta", std::move(change)},
                        {"logprobs", std::move(logprobs)},
                        {"finish_reason", std::move(reason)}});
  }

  std::vector<ToolCallStream> tools_;  ///< a choice each
  std::vector<int64_t> num_calls_;
};

}  // namespace

std::unique_ptr<Answer> chat_answer(const Call& call, const LLM& llm) {
  return std::make_unique<ChatAnswer>(call, llm);
}

}  // namespace foveal::server

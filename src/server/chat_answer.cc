#include <boost/json/serialize.hpp>

#include "foveal/version.h"
#include "server/answer.h"
#include "server/answer_text.h"
#include "server/usage.h"

namespace foveal::server {
namespace json = boost::json;
namespace {

class ChatAnswer : public Answer {
 public:
  ChatAnswer(const Call& call, const LLM& llm)
      : call_(call), llm_(llm), begun_(call.num_choices()) {}

  void delta(size_t, const OutputDelta& delta, std::string& out) override {
    const auto choice = static_cast<size_t>(delta.index);
    if (!begun_[choice]) {
      begun_[choice] = true;
      append(out, choice, {{"role", "assistant"}, {"content", ""}}, nullptr, FinishReason::kNone);
    }
    const bool logprobs = call_.sampling.logprobs && !delta.logprobs.empty();
    if (!delta.text.empty() || logprobs) {
      json::value rows = nullptr;
      if (logprobs) rows = logprobs_of(delta.logprobs, delta.top_logprobs);
      append(out, choice, {{"content", delta.text}}, std::move(rows), FinishReason::kNone);
    }
    if (delta.finish_reason != FinishReason::kNone) {
      append(out, choice, {}, nullptr, delta.finish_reason);
    }
  }

  void end(const std::vector<RequestOutput>& outputs, std::string& out) override {
    if (call_.include_usage) {
      json::object body = head("chat.completion.chunk");
      body["choices"] = json::array();
      body["usage"] = usage_json(usage_of(outputs));
      append_event(out, body);
    }
    out += kDone;
  }

  std::string whole(const std::vector<RequestOutput>& outputs) override {
    json::array choices;
    for (const CompletionOutput& completion : outputs.front().outputs) {
      json::value logprobs = nullptr;
      if (call_.sampling.logprobs) {
        logprobs = logprobs_of(completion.logprobs, completion.top_logprobs);
      }
      choices.push_back(json::object{{"index", choices.size()},
                                     {"message", message(completion.text)},
                                     {"logprobs", std::move(logprobs)},
                                     {"finish_reason", finish_name(completion.finish_reason)}});
    }
    json::object body = head("chat.completion");
    body["choices"] = std::move(choices);
    body["usage"] = usage_json(usage_of(outputs));
    return json::serialize(body);
  }

 private:
  json::object head(const char* object) const {
    return {{"id", call_.id},
            {"object", object},
            {"created", call_.created},
            {"model", call_.model},
            {"system_fingerprint", std::string("foveal-") + kVersion}};
  }

  /// A whole answer. Tool calls are still text here: taking them out of it is one call away, in
  /// this function and, for streams, in `delta`.
  static json::object message(const std::string& text) {
    return {{"role", "assistant"}, {"content", text}, {"refusal", nullptr}};
  }

  json::object logprobs_of(const std::vector<TokenLogprob>& own,
                           const std::vector<std::vector<TokenLogprob>>& top) const {
    return chat_logprobs(llm_, rows_of(own, top), *call_.sampling.logprobs);
  }

  void append(std::string& out, size_t choice, json::object change, json::value logprobs,
              FinishReason reason) const {
    json::object body = head("chat.completion.chunk");
    body["choices"] = json::array{json::object{{"index", choice},
                                               {"delta", std::move(change)},
                                               {"logprobs", std::move(logprobs)},
                                               {"finish_reason", finish_name(reason)}}};
    if (call_.include_usage) body["usage"] = nullptr;
    append_event(out, body);
  }

  const Call& call_;
  const LLM& llm_;
  std::vector<bool> begun_;
};

}  // namespace

std::unique_ptr<Answer> chat_answer(const Call& call, const LLM& llm) {
  return std::make_unique<ChatAnswer>(call, llm);
}

}  // namespace foveal::server

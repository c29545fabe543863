#include <boost/json/serialize.hpp>

#include "foveal/version.h"
#include "server/answer.h"
#include "server/answer_text.h"
#include "server/usage.h"

namespace foveal::server {
namespace json = boost::json;
namespace {

class CompletionAnswer : public Answer {
 public:
  CompletionAnswer(const Call& call, const LLM& llm)
      : call_(call), llm_(llm), begun_(call.num_choices()), offsets_(call.num_choices()) {}

  void delta(size_t prompt, const OutputDelta& delta, std::string& out) override {
    const size_t choice = choice_of(prompt, static_cast<size_t>(delta.index));
    std::string text = delta.text;
    if (call_.echo && !begun_[choice]) text.insert(0, call_.prompt_texts[prompt]);
    begun_[choice] = true;
    const bool logprobs = call_.sampling.logprobs && !delta.logprobs.empty();
    if (text.empty() && !logprobs && delta.finish_reason == FinishReason::kNone) return;
    json::value rows = nullptr;
    if (logprobs) rows = logprobs_of(rows_of(delta.logprobs, delta.top_logprobs), choice);
    json::object body = head();
    body["choices"] =
        json::array{choice_json(choice, std::move(text), std::move(rows), delta.finish_reason)};
    if (call_.include_usage) body["usage"] = nullptr;
    append_event(out, body);
  }

  void end(const std::vector<RequestOutput>& outputs, std::string& out) override {
    if (call_.include_usage) {
      json::object body = head();
      body["choices"] = json::array();
      body["usage"] = usage_json(usage_of(outputs));
      append_event(out, body);
    }
    out += kDone;
  }

  std::string whole(const std::vector<RequestOutput>& outputs) override {
    json::array choices;
    for (size_t prompt = 0; prompt < outputs.size(); ++prompt) {
      for (size_t idx = 0; idx < outputs[prompt].outputs.size(); ++idx) {
        choices.push_back(whole_choice(outputs[prompt], prompt, idx));
      }
    }
    json::object body = head();
    body["choices"] = std::move(choices);
    body["usage"] = usage_json(usage_of(outputs));
    return json::serialize(body);
  }

 private:
  size_t choice_of(size_t prompt, size_t idx) const {
    return prompt * static_cast<size_t>(call_.sampling.n) + idx;
  }

  json::object head() const {
    return {{"id", call_.id},
            {"object", "text_completion"},
            {"created", call_.created},
            {"model", call_.model},
            {"system_fingerprint", std::string("foveal-") + kVersion}};
  }

  static json::object choice_json(size_t choice, std::string text, json::value logprobs,
                                  FinishReason reason) {
    return {{"index", choice},
            {"text", std::move(text)},
            {"logprobs", std::move(logprobs)},
            {"finish_reason", finish_name(reason)}};
  }

  json::object logprobs_of(const std::vector<LogprobRow>& rows, size_t choice) {
    return classic_logprobs(llm_, rows, *call_.sampling.logprobs, offsets_[choice]);
  }

  json::object whole_choice(const RequestOutput& output, size_t prompt, size_t idx) {
    const CompletionOutput& completion = output.outputs[idx];
    const size_t choice = choice_of(prompt, idx);
    json::value logprobs = nullptr;
    if (call_.sampling.logprobs) {
      std::vector<LogprobRow> rows;
      for (size_t at = 0; call_.echo && at < output.prompt_logprobs.size(); ++at) {
        LogprobRow row{.token = output.prompt_token_ids[at]};
        if (const auto& known = output.prompt_logprobs[at]) {
          row.logprob = known->logprob;
          row.top = &output.prompt_top_logprobs[at];
        }
        rows.push_back(row);
      }
      const auto own = rows_of(completion.logprobs, completion.top_logprobs);
      rows.insert(rows.end(), own.begin(), own.end());
      logprobs = logprobs_of(rows, choice);
    }
    std::string text = call_.echo ? call_.prompt_texts[prompt] + completion.text : completion.text;
    return choice_json(choice, std::move(text), std::move(logprobs), completion.finish_reason);
  }

  const Call& call_;
  const LLM& llm_;
  std::vector<bool> begun_;
  std::vector<size_t> offsets_;
};

}  // namespace

std::unique_ptr<Answer> completion_answer(const Call& call, const LLM& llm) {
  return std::make_unique<CompletionAnswer>(call, llm);
}

}  // namespace foveal::server

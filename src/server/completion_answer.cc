#include "server/answer_text.h"
#include "server/choices_answer.h"

namespace foveal::server {
namespace json = boost::json;
namespace {

class CompletionAnswer : public ChoicesAnswer {
 public:
  CompletionAnswer(const Call& call, const LLM& llm)
      : ChoicesAnswer(call, llm, "text_completion", "text_completion"),
        offsets_(call.num_choices()) {}

  void delta(size_t prompt, const OutputDelta& delta, std::string& out) override {
    const size_t choice = choice_of(prompt, static_cast<size_t>(delta.index));
    std::string text = delta.text;
    if (call_.echo && !begun_[choice]) text.insert(0, call_.prompt_texts[prompt]);
    begun_[choice] = true;
    const bool logprobs = call_.sampling.logprobs && !delta.logprobs.empty();
    if (text.empty() && !logprobs && delta.finish_reason == FinishReason::kNone) return;
    json::value rows = nullptr;
    if (logprobs) rows = logprobs_of(rows_of(delta.logprobs, delta.top_logprobs), choice);
    append_choice(out, choice_json(choice, std::move(text), std::move(rows), delta.finish_reason));
  }

 private:
  json::array choices(const std::vector<RequestOutput>& outputs) override {
    json::array out;
    for (size_t prompt = 0; prompt < outputs.size(); ++prompt) {
      for (size_t idx = 0; idx < outputs[prompt].outputs.size(); ++idx) {
        out.push_back(whole_choice(outputs[prompt], prompt, idx));
      }
    }
    return out;
  }

  size_t choice_of(size_t prompt, size_t idx) const {
    return prompt * static_cast<size_t>(call_.sampling.n) + idx;
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

  std::vector<size_t> offsets_;
};

}  // namespace

std::unique_ptr<Answer> completion_answer(const Call& call, const LLM& llm) {
  return std::make_unique<CompletionAnswer>(call, llm);
}

}  // namespace foveal::server

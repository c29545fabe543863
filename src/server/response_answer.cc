#include <boost/json/serialize.hpp>

#include "server/answer.h"
#include "server/answer_text.h"
#include "server/usage.h"

namespace foveal::server {
namespace json = boost::json;
namespace {

class ResponseAnswer : public Answer {
 public:
  explicit ResponseAnswer(const Call& call) : call_(call), item_id_("msg_" + call.id.substr(5)) {}

  void delta(size_t, const OutputDelta& delta, std::string& out) override {
    begin(out);
    text_ += delta.text;
    if (delta.text.empty()) return;
    json::object data = part_fields();
    data["delta"] = delta.text;
    data["logprobs"] = json::array();
    event(out, "response.output_text.delta", std::move(data));
  }

  void end(const std::vector<RequestOutput>& outputs, std::string& out) override {
    begin(out);
    json::object text = part_fields();
    text["text"] = text_;
    text["logprobs"] = json::array();
    event(out, "response.output_text.done", std::move(text));
    json::object part = part_fields();
    part["part"] = part_json(text_);
    event(out, "response.content_part.done", std::move(part));
    const bool whole = outputs.front().outputs.front().finish_reason == FinishReason::kStop;
    event(out, "response.output_item.done",
          {{"output_index", 0}, {"item", item_json(text_, whole ? "completed" : "incomplete")}});
    event(out, whole ? "response.completed" : "response.incomplete",
          {{"response", response_json(&outputs)}});
  }

  void failed(const ApiError& error, std::string& out) override {
    event(out, "error",
          {{"code", error.code.empty() ? json::value("server_error") : json::value(error.code)},
           {"message", error.message},
           {"param", nullptr}});
  }

  std::string whole(const std::vector<RequestOutput>& outputs) override {
    text_ = outputs.front().outputs.front().text;
    return json::serialize(response_json(&outputs));
  }

 private:
  void event(std::string& out, std::string_view name, json::object data) {
    json::object body{{"type", json::string_view(name.data(), name.size())},
                      {"sequence_number", sequence_++}};
    for (auto& entry : data) body[entry.key()] = std::move(entry.value());
    append_event(out, name, body);
  }

  void begin(std::string& out) {
    if (sequence_ > 0) return;
    event(out, "response.created", {{"response", response_json(nullptr)}});
    event(out, "response.in_progress", {{"response", response_json(nullptr)}});
    json::object item = item_json("", "in_progress");
    item["content"] = json::array();
    event(out, "response.output_item.added", {{"output_index", 0}, {"item", std::move(item)}});
    json::object part = part_fields();
    part["part"] = part_json("");
    event(out, "response.content_part.added", std::move(part));
  }

  json::object part_fields() const {
    return {{"item_id", item_id_}, {"output_index", 0}, {"content_index", 0}};
  }

  static json::object part_json(const std::string& text) {
    return {{"type", "output_text"},
            {"text", text},
            {"annotations", json::array()},
            {"logprobs", json::array()}};
  }

  json::object item_json(const std::string& text, const char* status) const {
    return {{"id", item_id_},
            {"type", "message"},
            {"status", status},
            {"role", "assistant"},
            {"content", json::array{part_json(text)}}};
  }

  /// `outputs` null: still being made.
  json::object response_json(const std::vector<RequestOutput>* outputs) const {
    const bool whole =
        outputs != nullptr && outputs->front().outputs.front().finish_reason == FinishReason::kStop;
    const char* status = outputs == nullptr ? "in_progress" : whole ? "completed" : "incomplete";
    json::object out{{"id", call_.id},
                     {"object", "response"},
                     {"created_at", call_.created},
                     {"status", status},
                     {"error", nullptr},
                     {"incomplete_details", nullptr},
                     {"instructions", nullptr},
                     {"max_output_tokens", call_.sampling.max_tokens},
                     {"model", call_.model},
                     {"output", json::array()},
                     {"parallel_tool_calls", true},
                     {"previous_response_id", nullptr},
                     {"store", false},
                     {"temperature", call_.sampling.temperature},
                     {"tool_choice", "auto"},
                     {"tools", json::array()},
                     {"top_p", call_.sampling.top_p},
                     {"truncation", "disabled"},
                     {"metadata", json::object()},
                     {"usage", nullptr}};
    if (outputs == nullptr) return out;
    if (!whole) out["incomplete_details"] = json::object{{"reason", "max_output_tokens"}};
    out["output"] = json::array{item_json(text_, status)};
    out["usage"] = response_usage_json(usage_of(*outputs));
    return out;
  }

  const Call& call_;
  std::string item_id_;
  std::string text_;
  int64_t sequence_ = 0;
};

}  // namespace

std::unique_ptr<Answer> response_answer(const Call& call, const LLM&) {
  return std::make_unique<ResponseAnswer>(call);
}

}  // namespace foveal::server

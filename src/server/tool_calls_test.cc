#include "server/tool_calls.h"

#include <gtest/gtest.h>

#include <random>

#include "tokenizer/constraint_walk.h"
#include "tokenizer/test_vocab.h"

namespace foveal::server {
namespace {

using Form = ToolForm;

struct Case {
  Form form;
  std::string text;
  std::string content;
  std::vector<std::pair<std::string, std::string>> calls;
};

const std::vector<Case>& cases() {
  static const std::vector<Case> list = {
      {Form::kNone,
       "<tool_call>{\"name\": \"f\"}</tool_call>",
       "<tool_call>{\"name\": \"f\"}</tool_call>",
       {}},
      {Form::kHermes, "Just text < here.\n", "Just text < here.\n", {}},
      {Form::kHermes,
       "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"x\": [1, \"</a>\"]}}\n</tool_call>",
       "",
       {{"f", R"({"x":[1,"</a>"]})"}}},
      {Form::kHermes,
       "Let me see.\n<tool_call>{\"name\":\"f\",\"arguments\":{}}</tool_call>\n"
       "<tool_call>{\"name\":\"g\",\"parameters\":{\"a\":null}}</tool_call>\n",
       "Let me see.",
       {{"f", "{}"}, {"g", R"({"a":null})"}}},
      {Form::kHermes,
       "a <tool_call>{\"name\": }</tool_call> b",
       "a <tool_call>{\"name\": }</tool_call> b",
       {}},
      {Form::kHermes,
       "<tool_call>{\"name\":\"f\",\"arguments\":\"{\\\"x\\\": 1}\"}",
       "",
       {{"f", R"({"x":1})"}}},
      {Form::kHermes, "<tool_call>{\"name\":\"f\"", "<tool_call>{\"name\":\"f\"", {}},
      {Form::kHermes,
       "<tool_call>{\"name\":7,\"arguments\":{}}</tool_call>",
       "<tool_call>{\"name\":7,\"arguments\":{}}</tool_call>",
       {}},
      {Form::kHermes, "x\n <tool_cal", "x\n <tool_cal", {}},
      {Form::kLlama,
       "{\"name\": \"f\", \"parameters\": {\"q\": \"\u00fc\"}}",
       "",
       {{"f", "{\"q\":\"\u00fc\"}"}}},
      {Form::kLlama,
       "<|python_tag|>{\"name\": \"f\", \"parameters\": {}}; {\"name\": \"g\"}",
       "",
       {{"f", "{}"}, {"g", "{}"}}},
      {Form::kLlama, "\n{\"answer\": 7}", "\n{\"answer\": 7}", {}},
      {Form::kLlama,
       "{\"name\": \"f\", \"parameters\": {}} and so on",
       "{\"name\": \"f\", \"parameters\": {}} and so on",
       {}},
      {Form::kLlama, "The set {1}", "The set {1}", {}},
      {Form::kMistral,
       "[TOOL_CALLS] [{\"name\": \"f\", \"arguments\": {\"a\": 1}}, {\"name\": \"g\", "
       "\"arguments\": {}}]",
       "",
       {{"f", R"({"a":1})"}, {"g", "{}"}}},
      {Form::kMistral, " [{\"name\": \"f\", \"arguments\": {}}]", "", {{"f", "{}"}}},
      {Form::kMistral,
       "Sure. [TOOL_CALLS][{\"name\": \"f\", \"arguments\": {}}]",
       "Sure.",
       {{"f", "{}"}}},
      {Form::kMistral, "[1, 2]", "[1, 2]", {}},
      {Form::kMistral, "a [TOOL_CALLS] [{]", "a [TOOL_CALLS] [{]", {}},
  };
  return list;
}

void expect_case(const Case& wanted, const ToolCallStream::Piece& got) {
  EXPECT_EQ(got.content, wanted.content) << wanted.text;
  ASSERT_EQ(got.calls.size(), wanted.calls.size()) << wanted.text;
  for (size_t idx = 0; idx < got.calls.size(); ++idx) {
    EXPECT_EQ(got.calls[idx].name, wanted.calls[idx].first) << wanted.text;
    EXPECT_EQ(got.calls[idx].arguments, wanted.calls[idx].second) << wanted.text;
  }
}

TEST(ToolCalls, EveryForm) {
  for (const Case& wanted : cases())
    expect_case(wanted, parse_tool_calls(wanted.form, wanted.text));
}

TEST(ToolCalls, HoweverTheTextIsCut) {
  const uint32_t seed = std::random_device{}();
  std::mt19937 random(seed);
  for (const Case& wanted : cases()) {
    for (int round = 0; round < 50; ++round) {
      ToolCallStream stream(wanted.form);
      ToolCallStream::Piece all;
      const auto add = [&all](ToolCallStream::Piece piece) {
        all.content += piece.content;
        all.calls.insert(all.calls.end(), piece.calls.begin(), piece.calls.end());
      };
      for (size_t at = 0; at < wanted.text.size();) {
        const size_t count = round == 0 ? 1 : 1 + random() % 9;
        add(stream.push(wanted.text.substr(at, count)));
        at += count;
      }
      add(stream.finish());
      SCOPED_TRACE(seed);
      expect_case(wanted, all);
    }
  }
}

TEST(ToolCalls, OrdinaryTextIsNotHeldBack) {
  ToolCallStream stream(Form::kHermes);
  EXPECT_EQ(stream.push("a < b").content, "a < b");
  EXPECT_EQ(stream.push(" <tool").content, "");
  EXPECT_EQ(stream.push("box>").content, " <toolbox>");
}

TEST(ToolCalls, FormsFromTemplates) {
  EXPECT_EQ(tool_form("... <tool_call> ..."), Form::kHermes);
  EXPECT_EQ(tool_form("[AVAILABLE_TOOLS] ... [TOOL_CALLS]"), Form::kMistral);
  EXPECT_EQ(tool_form("<|start_header_id|> {% if tools %}"), Form::kLlama);
  EXPECT_EQ(tool_form("<|im_start|>"), Form::kNone);
}

TEST(ToolCalls, GuidedCallsAreReadBack) {
  const auto tools = boost::json::parse(R"([
    {"type": "function", "function": {"name": "look", "parameters": {"type": "object",
      "properties": {"where": {"$ref": "#/$defs/place"}}, "required": ["where"],
      "additionalProperties": false, "$defs": {"place": {"enum": ["here", "there"]}}}}},
    {"type": "function", "function": {"name": "stop", "parameters": {"type": "object",
      "properties": {}, "additionalProperties": false}}}])")
                         .as_array();
  const auto tokenizer = tokenizer::byte_level_vocab().load();
  std::mt19937 random(std::random_device{}());
  for (const Form form : {Form::kNone, Form::kHermes, Form::kLlama, Form::kMistral}) {
    const Form read = form == Form::kNone ? Form::kLlama : form;
    for (const std::optional<std::string>& name : {std::optional<std::string>(), {"look"}}) {
      const GuidedDecoding guided = guided_tool_call(form, tools, name);
      tokenizer::Constraint constraint =
          tokenizer->make_constraint(guided, tokenizer->end_tokens());
      const std::string text = tokenizer::wander(*tokenizer, constraint, random);
      const ToolCallStream::Piece got = parse_tool_calls(read, text);
      ASSERT_EQ(got.calls.size(), 1U) << text;
      EXPECT_EQ(got.content, "");
      const ToolCall& call = got.calls.front();
      EXPECT_TRUE(call.name == "look" || (call.name == "stop" && !name)) << text;
      const auto arguments = boost::json::parse(call.arguments).as_object();
      EXPECT_EQ(arguments.size(), call.name == "look" ? 1U : 0U) << text;
    }
    EXPECT_THROW(guided_tool_call(form, tools, "other"), Error);
    EXPECT_THROW(guided_tool_call(form, {boost::json::object{}}, std::nullopt), Error);
  }
}

}  // namespace
}  // namespace foveal::server

// Parts of requests that need no model to be read.
#include <gtest/gtest.h>

#include <boost/json/serialize.hpp>

#include "base/check.h"
#include "server/admission.h"
#include "server/errors.h"
#include "server/http_text.h"
#include "server/messages.h"
#include "server/sampling_read.h"

namespace foveal::server {
namespace {

std::string messages(const std::string& text) {
  const auto body = parse_body(R"({"m": )" + text + "}");
  return boost::json::serialize(read_messages(body.at("m").get_array(), "messages"));
}

std::string param_of(const std::function<void()>& function) {
  try {
    function();
  } catch (const Error& error) {
    return describe_error(error, "test").param;
  }
  return "nothing thrown";
}

TEST(Messages, JoinsTextParts) {
  EXPECT_EQ(messages(R"([{"role": "developer", "content": "a"},
                         {"role": "user", "content": [{"type": "text", "text": "b"},
                                                      {"type": "input_text", "text": "c"}]}])"),
            R"([{"role":"system","content":"a"},{"role":"user","content":"bc"}])");
}

TEST(Messages, ReadsToolCalls) {
  EXPECT_EQ(messages(R"([{"role": "assistant", "content": null, "tool_calls":
                [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{\"x\": 1}"}}]}])"),
            R"([{"role":"assistant","content":"","tool_calls":[{"type":"function","id":"1",)"
            R"("function":{"name":"f","arguments":{"x":1}}}]}])");
}

TEST(Messages, NamesWhatIsWrong) {
  EXPECT_EQ(param_of([] { messages("[]"); }), "messages");
  EXPECT_EQ(param_of([] { messages("[3]"); }), "messages.0");
  EXPECT_EQ(param_of([] { messages(R"([{"role": "me", "content": ""}])"); }), "messages.0.role");
  EXPECT_EQ(param_of([] { messages(R"([{"role": "user"}])"); }), "messages.0.content");
  EXPECT_EQ(param_of([] { messages(R"([{"role": "user", "content": "", "x": 1}])"); }),
            "messages.0.x");
  EXPECT_EQ(param_of([] { messages(R"([{"role": "user", "content": [{"type": "image_url"}]}])"); }),
            "messages.0.content.0.type");
  EXPECT_EQ(param_of([] {
              messages(R"([{"role": "assistant", "tool_calls": [{"function":
                           {"name": "f", "arguments": "{"}}]}])");
            }),
            "messages.0.tool_calls.0.function.arguments");
}

TEST(Format, ReadsBothSpellings) {
  const auto read = [](const char* text) { return read_format(parse_body(text), "f"); };
  EXPECT_FALSE(read(R"({"type": "text"})"));
  EXPECT_EQ(read(R"({"type": "json_object"})")->kind, GuidedDecoding::Kind::kJsonObject);
  EXPECT_EQ(
      read(R"({"type": "json_schema", "json_schema": {"name": "n", "schema": {"a": 1}}})")->text,
      R"({"a":1})");
  EXPECT_EQ(read(R"({"type": "json_schema", "name": "n", "schema": {"a": 1}})")->text,
            R"({"a":1})");
  EXPECT_EQ(param_of([&] { read(R"({"type": "xml"})"); }), "f.type");
  EXPECT_EQ(param_of([&] { read(R"({"type": "json_schema"})"); }), "f.schema");
}

TEST(Errors, TellClientsTheirOwnMistakesOnly) {
  const Error theirs(ErrorKind::kContextLength, "[prompt] got 9 tokens; need fewer than 8");
  EXPECT_EQ(describe_error(theirs, "test").status, 400);
  EXPECT_EQ(describe_error(theirs, "test").code, "context_length_exceeded");
  EXPECT_EQ(describe_error(theirs, "test").param, "prompt");
  for (const ErrorKind kind : {ErrorKind::kInternal, ErrorKind::kIo, ErrorKind::kCorruptFile}) {
    const ApiError told = describe_error(Error(kind, "[x] got 0x7fff1234"), "test");
    EXPECT_EQ(told.status, 500);
    EXPECT_EQ(told.message.find("0x7fff"), std::string::npos);
  }
  EXPECT_EQ(describe_error(std::runtime_error("0x7fff"), "test").message.find("0x7fff"),
            std::string::npos);
  EXPECT_EQ(describe_error(Error(ErrorKind::kOutOfMemory, "[kv] got"), "test").status, 429);
}

TEST(Admission, CountsPlaces) {
  Admission admission(3);
  auto two = admission.enter(2);
  ASSERT_TRUE(two);
  EXPECT_FALSE(admission.enter(2));
  {
    const auto one = admission.enter(1);
    EXPECT_TRUE(one);
    EXPECT_EQ(admission.in_flight(), 3);
  }
  two.reset();
  EXPECT_EQ(admission.in_flight(), 0);
  EXPECT_TRUE(admission.enter(9));  // alone
}

TEST(HttpText, WritesHeadsAndChunks) {
  const std::string head = response_head({.status = 404, .body = "12345"}, {.keep_alive = false});
  EXPECT_TRUE(head.starts_with("HTTP/1.1 404 Not Found\r\n"));
  EXPECT_NE(head.find("\r\nContent-Length: 5\r\n"), std::string::npos);
  EXPECT_NE(head.find("\r\nConnection: close\r\n"), std::string::npos);
  EXPECT_TRUE(head.ends_with("\r\n\r\n"));
  std::string out;
  append_chunk(out, std::string(17, 'x'), /*chunked=*/true);
  EXPECT_EQ(out, "11\r\n" + std::string(17, 'x') + "\r\n");
}

}  // namespace
}  // namespace foveal::server

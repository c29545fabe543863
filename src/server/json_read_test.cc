#include "server/json_read.h"

#include <gtest/gtest.h>

#include "base/check.h"

namespace foveal::server {
namespace {

std::string error_of(const std::function<void()>& function) {
  try {
    function();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kInvalidArgument);
    return error.what();
  }
  return "";
}

TEST(JsonRead, RefusesWhatIsNoCleanObject) {
  EXPECT_EQ(parse_body(R"({"a": {"b": 1}, "c": {"b": 2}})").size(), 2);
  for (const char* text :
       {"", " ", "[1]", "1", "{", "{}x", "{} {}", R"({"a": 1, "a": 2})",
        R"({"x": {"a": 1, "a": 2}})", "{'a': 1}", R"({"a": NaN})", R"({"a": Infinity})",
        "{\"a\": \"\xff\"}", "{\"\xc0\x80\": 1}", R"({"a": "\ud800"})", "{\"a\": \"\n\"}",
        R"({"a": 01})", R"({"a": 1,})", "// c\n{}"}) {
    EXPECT_NE(error_of([&] { parse_body(text); }), "") << text;
  }
}

TEST(JsonRead, BoundsDepth) {
  const auto nested = [](int depth) {
    return R"({"a": )" + std::string(depth, '[') + std::string(depth, ']') + "}";
  };
  EXPECT_EQ(error_of([&] { parse_body(nested(31)); }), "");
  EXPECT_NE(error_of([&] { parse_body(nested(32)); }), "");
  EXPECT_NE(error_of([&] { parse_body(nested(1'000'000)); }), "");
  EXPECT_NE(error_of([&] { parse_body(std::string(1'000'000, '[')); }), "");
}

TEST(JsonRead, ChecksTypesAndRanges) {
  const auto body = parse_body(
      R"({"t": true, "i": 3, "f": 3.5, "w": 4.0, "s": "x", "big": 1e300, "huge": 1e999, "n": null,
          "u": 18446744073709551615, "neg": -1, "l": [1, true]})");
  JsonReader reader(body);
  EXPECT_EQ(reader.flag("t"), true);
  EXPECT_EQ(reader.integer("i", 0, 3), 3);
  EXPECT_EQ(reader.integer("w", 0, 9), 4);
  EXPECT_EQ(reader.number("f", 0, 9), 3.5);
  EXPECT_EQ(reader.text("s"), "x");
  EXPECT_EQ(reader.text("n"), std::nullopt);
  EXPECT_EQ(reader.text("absent"), std::nullopt);
  EXPECT_EQ(reader.seed("u"), UINT64_MAX);
  EXPECT_EQ(reader.seed("neg"), UINT64_MAX);
  EXPECT_EQ(error_of([&] { reader.integer("t", 0, 3); }),
            "[t] got true; need an integer from 0 to 3");
  for (const char* name : {"f", "s", "big", "huge", "u", "neg", "l"}) {
    EXPECT_NE(error_of([&] { reader.integer(name, 0, 100); }), "") << name;
  }
  for (const char* name : {"t", "s", "huge", "l"}) {
    EXPECT_NE(error_of([&] { reader.number(name, -1e308, 1e308); }), "") << name;
  }
  EXPECT_NE(error_of([&] { reader.flag("i"); }), "");
  EXPECT_NE(error_of([&] { reader.text("i"); }), "");
  EXPECT_NE(error_of([&] { reader.ids("l", 9); }), "");
  EXPECT_NE(error_of([&] { reader.list("l", 1); }), "");
}

TEST(JsonRead, NamesWhatWasNotRead) {
  const auto body = parse_body(R"({"known": 1, "tempreature": 2})");
  JsonReader reader(body, "outer");
  reader.integer("known", 0, 9);
  EXPECT_EQ(error_of([&] { reader.finish(); }).substr(0, 19), "[outer.tempreature]");
  reader.ignore({"tempreature"});
  EXPECT_EQ(error_of([&] { reader.finish(); }), "");
}

}  // namespace
}  // namespace foveal::server

#include "base/yaml_options.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <string>

#include "base/test_folder.h"
#include "foveal/error.h"

namespace foveal {
namespace {

std::string error_of(std::string_view text) {
  try {
    parse_yaml(text, "c.yaml");
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kInvalidArgument);
    return error.what();
  }
  return "no error";
}

TEST(Yaml, TreeWithLines) {
  const ConfigNode root = parse_yaml("# note\na: 1\nb:\n  - x\n  - {c: 'two', d: }\n", "c.yaml");
  ASSERT_EQ(root.kind, ConfigNode::Kind::kMap);
  EXPECT_EQ(root.find("a")->text, "1");
  EXPECT_EQ(root.find("a")->origin.line, 2);
  const ConfigNode& second = root.find("b")->items.at(1);
  EXPECT_TRUE(second.find("c")->quoted);
  EXPECT_EQ(second.find("d")->kind, ConfigNode::Kind::kNull);
  EXPECT_EQ(where(*second.find("c"), "b.1.c"), "c.yaml:5 b.1.c");
}

TEST(Yaml, EmptyIsNull) {
  for (const char* text :
       {"", "\n\n", "# only a comment\n", "---\n", "~\n", "\xef\xbb\xbf", "null"}) {
    EXPECT_EQ(parse_yaml(text, "c").kind, ConfigNode::Kind::kNull) << text;
  }
  EXPECT_EQ(parse_yaml("'null'", "c").kind, ConfigNode::Kind::kScalar);
  EXPECT_EQ(parse_yaml("!!str null", "c").kind, ConfigNode::Kind::kScalar);
  EXPECT_EQ(parse_yaml("{}", "c").kind, ConfigNode::Kind::kMap);
}

TEST(Yaml, AliasesAreCopies) {
  const ConfigNode root = parse_yaml("a: &x {k: 1}\nb: *x\nc: [*x, *x]\n", "c");
  EXPECT_EQ(root.find("b")->find("k")->text, "1");
  EXPECT_EQ(root.find("c")->items.at(1).find("k")->text, "1");
}

TEST(Yaml, RefusesWithLineAndPath) {
  const std::pair<std::string, std::string> cases[] = {
      {"a: 1\nb: 2\na: 3\n", "[c.yaml:3] got key 'a' again after line 1; need each key once"},
      {"k:\n  a: 1\n  'a': 3\n", "[c.yaml:3 k] got key 'a' again after line 2; need each key once"},
      {"a: &x {k: 1}\nb:\n  <<: *x\n",
       "[c.yaml:3 b] got merge key '<<'; need the fields themselves"},
      {"a: 1\n---\nb: 2\n", "[c.yaml] got more than one YAML document; need one"},
      {"? [1]\n: 2\n", "[c.yaml:1] got a list as a key; need a name"},
      {"~: 2\n", "[c.yaml:1] got null as a key; need a name"},
      {"a:\n  - !!binary aGk=\n",
       "[c.yaml:2 a.0] got tag 'tag:yaml.org,2002:binary'; need plain values"},
      {"a: !x {}\n", "[c.yaml:1 a] got tag '!x'; need plain values"},
      {"a: &x [*x]\n",
       "[c.yaml:1 a.0] got an alias to a value that contains it; need plain values"},
      {"a: 1\nb: 'it''s\n", "[c.yaml:2 b] got a quote that is not closed; need a closing quote"},
      {"a: \"x\\\"\n", "[c.yaml:1 a] got a quote that is not closed; need a closing quote"},
      {"a: 1\nb\n", "[c.yaml:2 b] got a key without a value; need key: value"},
      {"x: {a: 1, b}\n", "[c.yaml:1 x.b] got a key without a value; need key: value"},
      {"a: \x01\n", "[c.yaml:1] got byte 0x01; need UTF-8 text"},
      {"a: 1\nb: \xff\n", "[c.yaml:2] got byte 0xff; need UTF-8 text"},
      {"a: \xed\xa0\x80\n", "[c.yaml:1] got byte 0xed; need UTF-8 text"},
      {"a: \xc0\xaf\n", "[c.yaml:1] got byte 0xc0; need UTF-8 text"},
      {"a: \xe2\x82", "[c.yaml:1] got byte 0xe2; need UTF-8 text"},
  };
  for (const auto& [text, message] : cases) EXPECT_EQ(error_of(text), message);
}

TEST(Yaml, SyntaxErrorsNameTheLine) {
  for (const char* text : {"a: 1\nb: [1, 2\n", "a: 1\n\tb: 2\n", "a: *nothing\n", "a: }\n"}) {
    const std::string message = error_of(text);
    EXPECT_TRUE(message.starts_with("[c.yaml:")) << message;
    EXPECT_NE(message.find("; need "), std::string::npos) << message;
  }
}

TEST(Yaml, QuotesAndColonsThatAreFine) {
  const ConfigNode root = parse_yaml(
      "a: 'it''s'\nb: \"x\\\"y\"\n'c' :\nd : \ne: &x 'q'\n? f\n: 1\ng: \"l1\n  l2\"\n", "c");
  EXPECT_EQ(root.find("a")->text, "it's");
  EXPECT_EQ(root.find("b")->text, "x\"y");
  EXPECT_EQ(root.find("c")->kind, ConfigNode::Kind::kNull);
  EXPECT_EQ(root.find("d")->kind, ConfigNode::Kind::kNull);
  EXPECT_EQ(root.find("e")->text, "q");
  EXPECT_EQ(root.find("f")->text, "1");
  EXPECT_EQ(root.find("g")->text, "l1 l2");
  // Marks must survive what precedes them: a byte order mark, CR LF, letters of several bytes.
  EXPECT_EQ(
      parse_yaml("\xef\xbb\xbf# \xc3\xa9\r\na: '\xe2\x82\xac'\r\nb:\r\n", "c").find("b")->kind,
      ConfigNode::Kind::kNull);
}

TEST(Yaml, Bounded) {
  EXPECT_NE(error_of(std::string(300000, ' ')).find("need at most 262144"), std::string::npos);
  EXPECT_NE(error_of(std::string(33, '[')).find("need at most 32 levels"), std::string::npos);
  EXPECT_NE(error_of(std::string(200000, '[')).find("; need "), std::string::npos);
  EXPECT_NE(error_of(std::string(200000, '{')).find("; need "), std::string::npos);
  std::string many = "[";
  for (int item = 0; item < 10001; ++item) many += "1,";
  EXPECT_NE(error_of(many + "]").find("need at most 10000"), std::string::npos);
  // Ten levels of ten aliases each: 10^10 values from 400 bytes.
  std::string bomb = "a0: &a0 [1]\n";
  for (int level = 1; level <= 10; ++level) {
    bomb += fmt::format("a{}: &a{} [", level, level);
    for (int item = 0; item < 10; ++item) bomb += fmt::format("*a{},", level - 1);
    bomb += "]\n";
  }
  EXPECT_NE(error_of(bomb).find("need at most 10000, aliases expanded"), std::string::npos);
  // The same for depth: each alias adds a level.
  std::string deep = "a0: &a0 [1]\n";
  for (int level = 1; level <= 40; ++level) {
    deep += fmt::format("a{}: &a{} [*a{}]\n", level, level, level - 1);
  }
  EXPECT_NE(error_of(deep).find("need at most 32 levels"), std::string::npos);
}

TEST(Yaml, Files) {
  const TestFolder folder;
  const std::string path = folder.write("extra.yaml", "a: 1\na: 2\n");
  try {
    load_yaml(path);
    FAIL() << "must throw";
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(), "[extra.yaml:2] got key 'a' again after line 1; need each key once");
  }
  try {
    load_yaml(folder.path("none.yaml"));
    FAIL() << "must throw";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kNotFound);
  }
}

}  // namespace
}  // namespace foveal

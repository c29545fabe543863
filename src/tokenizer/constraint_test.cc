#include <gtest/gtest.h>

#include <algorithm>
#include <boost/json.hpp>
#include <optional>
#include <regex>
#include <set>
#include <thread>

#include "tokenizer/constraint_walk.h"
#include "tokenizer/test_vocab.h"

namespace foveal::tokenizer {
namespace {

namespace json = boost::json;

class ConstraintTest : public testing::Test {
 protected:
  ConstraintTest() : seed_(std::random_device{}()), random_(seed_) {
    RecordProperty("seed", std::to_string(seed_));
  }
  Constraint make(const GuidedDecoding& what) const {
    return tokenizer_->make_constraint(what, tokenizer_->end_tokens());
  }
  std::string text(const GuidedDecoding& what) {
    Constraint constraint = make(what);
    return wander(*tokenizer_, constraint, random_);
  }

  std::unique_ptr<Tokenizer> tokenizer_ = byte_level_vocab().load();
  uint32_t seed_;
  std::mt19937 random_;
};

TEST_F(ConstraintTest, ChoicesAreAllThereIs) {
  const std::vector<std::string> choices{"yes",  "no",        "hello",
                                         "hell", "a.b|c\\d/", "\u00f6 \u4f60"};
  std::set<std::string> seen;
  for (int round = 0; round < 200; ++round) seen.insert(text(choice(choices)));
  EXPECT_EQ(seen, std::set<std::string>(choices.begin(), choices.end())) << seed_;
}

TEST_F(ConstraintTest, EndsAreAllowedWhereTheTextMayEnd) {
  Constraint constraint = make(choice({"hell", "hello"}));
  const auto id = [&](const char* token) { return *tokenizer_->token_id(token); };
  const int32_t end = tokenizer_->end_tokens().front();
  EXPECT_EQ(listed(constraint.allowed()),
            (std::vector<int32_t>{'h', id("he"), id("hell"), id("hello")}));
  constraint.accept(id("hell"));
  EXPECT_FALSE(constraint.finished());
  EXPECT_TRUE(allows(constraint.allowed(), 'o'));
  EXPECT_TRUE(allows(constraint.allowed(), end));
  EXPECT_FALSE(allows(constraint.allowed(), id("<|user|>")));
  Constraint other = constraint.fork();
  constraint.accept('o');
  EXPECT_TRUE(constraint.finished());  // nothing can follow
  EXPECT_FALSE(other.finished());
  EXPECT_TRUE(allows(other.allowed(), 'o'));
  other.accept(end);
  EXPECT_TRUE(other.finished());
}

TEST_F(ConstraintTest, EndTokensAreTheRequests) {
  const int32_t user = *tokenizer_->token_id("<|user|>");
  Constraint own = tokenizer_->make_constraint(regex("a+"), std::vector<int32_t>{user, 300});
  own.accept('a');
  EXPECT_EQ(listed(own.allowed()), (std::vector<int32_t>{'a', user, 300}));  // 300: padding
  Constraint none = tokenizer_->make_constraint(regex("a+"), {});
  none.accept('a');
  EXPECT_EQ(listed(none.allowed()), (std::vector<int32_t>{'a'}));
}

TEST_F(ConstraintTest, RegularExpressions) {
  const std::string date = "(19|20)[0-9]{2}-(0[1-9]|1[0-2])-[0-3][0-9]";
  for (int round = 0; round < 50; ++round) {
    const std::string got = text(regex(date));
    EXPECT_TRUE(std::regex_match(got, std::regex(date))) << got << " seed " << seed_;
  }
  EXPECT_EQ(text(regex("caf\u00e9/\\u{1F600}")), "caf\u00e9/\U0001F600");
}

TEST_F(ConstraintTest, JsonFollowsItsSchema) {
  const std::string schema = R"({"type": "object", "properties": {
    "kind": {"enum": ["cat", "d\"og", 7, null]}, "age": {"type": "integer", "minimum": 3, "maximum": 120},
    "tags": {"type": "array", "items": {"type": "string", "maxLength": 5}, "minItems": 1, "maxItems": 3},
    "home": {"type": "object", "properties": {"\u00fc": {"type": "number"}, "ok": {"type": "boolean"}},
             "required": ["\u00fc"], "additionalProperties": false}},
    "required": ["kind", "age", "tags", "home"], "additionalProperties": false})";
  int ended = 0;
  for (int round = 0; round < 60; ++round) {
    const std::string got = text(json_schema(schema));
    if (got.empty()) continue;
    ended += 1;
    boost::system::error_code error;
    const json::value value = json::parse(got, error);
    ASSERT_FALSE(error) << got << " seed " << seed_;
    const json::object& object = value.as_object();
    ASSERT_EQ(object.size(), 4U) << got;
    const json::value& kind = object.at("kind");
    EXPECT_TRUE(kind.is_null() || kind == 7 || kind == "cat" || kind == "d\"og") << got;
    const auto age = json::value_to<int64_t>(object.at("age"));
    EXPECT_TRUE(age >= 3 && age <= 120) << got;
    const json::array& tags = object.at("tags").as_array();
    EXPECT_TRUE(!tags.empty() && tags.size() <= 3) << got;
    EXPECT_TRUE(object.at("home").as_object().at("\u00fc").is_number()) << got;
  }
  EXPECT_GT(ended, 30);
}

TEST_F(ConstraintTest, RecursiveSchemasAndCombinations) {
  const std::string list = R"({"$ref": "#/$defs/node", "$defs": {"node": {
    "anyOf": [{"type": "null"}, {"type": "array", "prefixItems": [{"const": 1}, {"$ref": "#/$defs/node"}],
                                 "items": false, "minItems": 2}]}}})";
  const std::string both = R"({"allOf": [{"$ref": "#/$defs/a"}, {"required": ["x"]}], "$defs": {"a":
    {"type": "object", "properties": {"x": {"type": "boolean"}}, "additionalProperties": false}}})";
  for (int round = 0; round < 20; ++round) {
    const std::string got = text(json_schema(list));
    EXPECT_TRUE(got.empty() || json::parse(got).is_null() || json::parse(got).is_array()) << got;
    EXPECT_TRUE(json::parse(text(json_schema(both))).at("x").is_bool());
  }
}

TEST_F(ConstraintTest, AnyJsonObject) {
  int ended = 0;
  for (int round = 0; round < 30; ++round) {
    const std::string got = text(guided(GuidedDecoding::Kind::kJsonObject, ""));
    if (got.empty()) continue;
    ended += 1;
    boost::system::error_code error;
    const json::value value = json::parse(got, error);
    EXPECT_TRUE(!error && value.is_object()) << got << " seed " << seed_;
  }
  EXPECT_GT(ended, 5);
}

TEST_F(ConstraintTest, LarkGrammarsAndSpecialTokens) {
  const std::string sum = "start: NUM (\"+\" NUM)* \"=\"\nNUM: /[1-9][0-9]{0,2}/\n";
  for (int round = 0; round < 30; ++round) {
    const std::string got = text(grammar(sum));
    EXPECT_TRUE(std::regex_match(got, std::regex("[1-9][0-9]{0,2}(\\+[1-9][0-9]{0,2})*=")))
        << got << " seed " << seed_;
  }
  Constraint call = make(grammar("start: <|user|> \"x\" %json {\"type\": \"null\"}"));
  const int32_t user = *tokenizer_->token_id("<|user|>");
  EXPECT_EQ(listed(call.allowed()), (std::vector<int32_t>{user}));
  call.accept(user);
  EXPECT_EQ(listed(call.allowed()), (std::vector<int32_t>{'x'}));
}

TEST_F(ConstraintTest, WhatIsNotAllowedIsRefused) {
  Constraint constraint = make(choice({"yes"}));
  for (int again = 0; again < 2; ++again) {
    try {
      constraint.accept('n');
      FAIL() << "was accepted";
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kInvalidArgument);
    }
  }
}

TEST_F(ConstraintTest, MalformedOnesAreRefused) {
  const std::vector<GuidedDecoding> bad = {
      json_schema(""),
      json_schema("{"),
      json_schema("[]"),
      json_schema("7"),
      json_schema("\xff"),
      json_schema(R"({"type": "nothing"})"),
      json_schema(R"({"type": 3})"),
      json_schema(R"({"$ref": "#/nowhere"})"),
      json_schema(R"({"$ref": "http://x/y"})"),
      json_schema(R"({"type": "string", "pattern": "("})"),
      json_schema(R"({"type": "string", "pattern": "a\\"})"),
      json_schema(R"({"type": "integer", "minimum": 5, "maximum": 4})"),
      json_schema(R"({"enum": []})"),
      json_schema("false"),
      json_schema(R"({"properties": 3})"),
      json_schema(R"({"x-guidance": 3})"),
      regex(""),
      regex("("),
      regex("[z-a]"),
      regex("a{5,2}"),
      regex("(?P<"),
      regex("\\"),
      regex("(a)\\1"),
      regex("\xc3"),
      grammar(""),
      grammar("start"),
      grammar("start: other"),
      grammar("begin: \"a\""),
      grammar("start: <|nothing|>"),
      grammar("start: start"),
      grammar("start: A\nA: A \"x\""),
      grammar("start: %json {\"type\": 3}"),
      grammar("start: <[99999999]>"),
      choice({}),
      choice({""}),
      choice({"a", ""}),
      choice({"\xff"})};
  for (const GuidedDecoding& what : bad) {
    EXPECT_FALSE(attempt(*tokenizer_, what).constraint) << what.text;
  }
}

TEST_F(ConstraintTest, ManyThreadsAtOnce) {
  std::vector<std::thread> threads;
  for (int thread = 0; thread < 4; ++thread) {
    threads.emplace_back([&, thread] {
      std::mt19937 random(seed_ + static_cast<uint32_t>(thread));
      for (int round = 0; round < 5; ++round) {
        Constraint constraint = make(regex("[ab]{3}"));
        EXPECT_EQ(wander(*tokenizer_, constraint, random).size(), 3U);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST_F(ConstraintTest, SentencePieceVocabulary) {
  const auto tokenizer = sentence_vocab().load();
  Constraint constraint =
      tokenizer->make_constraint(choice({"abc", " ab"}), tokenizer->end_tokens());
  const std::string got = wander(*tokenizer, constraint, random_);
  EXPECT_TRUE(got == "abc" || got == " ab") << got;
}

}  // namespace
}  // namespace foveal::tokenizer

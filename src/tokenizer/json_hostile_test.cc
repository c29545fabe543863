#include <gtest/gtest.h>

#include "foveal/error.h"
#include "tokenizer/test_folder.h"
#include "tokenizer/tokenizer.h"

namespace foveal::tokenizer {
namespace {

/// byte_level.json with its first `from` replaced.
std::string changed(const std::string& from, const std::string& to) {
  std::string json = slurp(data_path("byte_level.json"));
  const size_t at = json.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return json.replace(at, from.size(), to);
}

/// What loading says, or what encoding `text` then says.
std::string error_of(const std::string& json, const std::string& config = "",
                     const std::string& text = "hello world") {
  const Folder folder;
  folder.write("tokenizer.json", json);
  if (!config.empty()) folder.write("tokenizer_config.json", config);
  try {
    Tokenizer::from_file(folder.path())->encode(text, true);
  } catch (const Error& error) {
    const bool known =
        error.kind() == ErrorKind::kCorruptFile || error.kind() == ErrorKind::kInvalidArgument;
    EXPECT_TRUE(known) << error.what();
    return error.what();
  }
  return "";
}

std::string with_normalizer(const std::string& json) {
  return changed("{\"type\": \"NFC\"}", json);
}

std::string with_added(const std::string& json) {
  return changed("}], \"normalizer\"", "}, " + json + "], \"normalizer\"");
}

TEST(TokenizerJsonHostile, LongAddedTokensAreRefused) {
  EXPECT_EQ(error_of(with_added("{\"content\": \"" + std::string(100000, 'a') + "\"}")),
            "[tokenizer] got an added token of 100000 bytes; need at most 1024");
  // As many as are allowed, each of which begins like all the others.
  std::string many;
  for (int i = 0; i < 500; ++i) {
    many += (i == 0 ? "" : ", ") + std::string("{\"content\": \"") + std::string(1000, 'a') +
            std::to_string(i) + "\"}";
  }
  EXPECT_EQ(error_of(with_added(many), "", std::string(20000, 'a')), "");
}

TEST(TokenizerJsonHostile, NormalizersMayNotGrowATextWithoutBound) {
  std::string steps;
  for (int i = 0; i < 8; ++i) {
    steps += (i == 0 ? "" : ", ") +
             std::string(R"({"type": "Replace", "pattern": {"String": "a"}, "content": "aa"})");
  }
  const std::string json =
      with_normalizer(R"({"type": "Sequence", "normalizers": [)" + steps + "]}");
  EXPECT_EQ(error_of(json), "");
  EXPECT_EQ(error_of(json, "", std::string(250000, 'a')),
            "[tokenizer] got a text of 250000 bytes for a normalizer that makes it up to 256 times "
            "as long; need at most 16384 bytes");
}

TEST(TokenizerJsonHostile, WhatPanicsIsRefused) {
  for (const char* pattern : {R"({"String": ""})", R"({"Regex": ""})"}) {
    EXPECT_EQ(error_of(with_normalizer(R"({"type": "Replace", "content": "x", "pattern": )" +
                                       std::string(pattern) + "}")),
              "[tokenizer] got a normalizer that replaces an empty pattern; need one of at least "
              "a byte");
  }
  std::string model = slurp(data_path("byte_level.json"));
  const std::string old = "\"continuing_subword_prefix\": null, ";
  model.erase(model.find(old), old.size());
  model.replace(model.find("\"model\": {"), 10,
                "\"model\": {\"continuing_subword_prefix\": \"##\", ");
  EXPECT_EQ(error_of(model),
            "[tokenizer] got merge 0 with 'e'; need a token that begins with '##'");
  model.replace(model.find("##"), 2, std::string(2000, '#'));
  EXPECT_EQ(error_of(model),
            "[tokenizer] got a continuing_subword_prefix of 2000 bytes; need at most 64");
  // Not found while loading: the library panics where its expression runs away.
  const std::string late = error_of(
      with_normalizer(R"({"type": "Replace", "content": "x", "pattern": {"Regex": "(a|aa)+b"}})"),
      "", std::string(3000, 'a') + " b");
  EXPECT_TRUE(late.starts_with("[tokenizer] got a tokenizer that fails on this text (")) << late;
  EXPECT_TRUE(late.ends_with("); need an intact tokenizer file")) << late;
}

TEST(TokenizerJsonHostile, RunawayExpressionsSayWhatWouldHelp) {
  const std::string json = changed(R"(\\p{N}{1,3}| ?\\p{L}+|[^\\p{L}\\p{N}]+)", "(a|aa)+b");
  const std::string error = error_of(json, "", std::string(3000, 'a') + " b");
  EXPECT_TRUE(error.ends_with("; need a text (or tokenizer) whose pattern matches in bounded time"))
      << error;
}

TEST(TokenizerJsonHostile, IdsMustAgree) {
  EXPECT_EQ(error_of(changed("\"id\": 261, ", "\"id\": 300, ")),
            "[tokenizer] got id 300 for added token '<s>'; need 261, the vocabulary's or the next "
            "free one");
  EXPECT_EQ(error_of(changed("\"id\": 261, ", "")), "");
  // A token of the vocabulary may be an added one, under its own id.
  EXPECT_EQ(error_of(with_added(R"({"id": 259, "content": "hello"})")), "");
  EXPECT_NE(error_of(with_added(R"({"id": 260, "content": "hello"})")), "");
  const std::string twice = error_of(changed("\"hello\": 259", "\"hello\": 258"));
  EXPECT_NE(twice.find("two tokens of id 258"), std::string::npos) << twice;
  const std::string key = error_of(changed("\"hello\": 259", "\"hello\": 259, \"hello\": 400"));
  EXPECT_NE(key.find("token 'hello' twice"), std::string::npos) << key;
}

TEST(TokenizerJsonHostile, ConfigsMustBeWellTyped) {
  const std::string json = slurp(data_path("byte_level.json"));
  for (const char* good :
       {"{}", R"({"bos_token": null, "eos_token": null, "add_bos_token": null})",
        R"({"bos_token": {"content": "<s>", "lstrip": false}, "add_bos_token": true})",
        R"({"bos_token": "<nothing>", "add_bos_token": false})", R"({"bos_token": "<nothing>"})",
        R"({"bos_token": null, "add_bos_token": true})", R"({"eos_token": "<nothing>"})"}) {
    EXPECT_EQ(error_of(json, good), "") << good;
  }
  for (const char* bad :
       {"[]", "null", "3", "{", R"({"bos_token": 1})", R"({"eos_token": ["</s>"]})",
        R"({"bos_token": {}})", R"({"bos_token": {"content": 1}})", R"({"add_bos_token": "true"})",
        R"({"add_bos_token": 1})", R"({"bos_token": "<nothing>", "add_bos_token": true})"}) {
    EXPECT_NE(error_of(json, bad), "") << bad;
  }
}

}  // namespace
}  // namespace foveal::tokenizer

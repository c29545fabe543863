// Guided decoding through the engine: a tiny model of random weights, which would say anything, and
// a small real one when FOVEAL_TEST_MODEL names its file.
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <boost/json.hpp>
#include <cstdlib>
#include <regex>

#include "engine/load.h"
#include "engine_testing.h"
#include "foveal/llm.h"

namespace foveal {
namespace {

namespace json = boost::json;

constexpr const char* kSchema = R"({"type": "object", "properties": {
  "name": {"type": "string", "maxLength": 12}, "mood": {"enum": ["happy", "s\u00fc\"\u00df"]},
  "age": {"type": "integer", "minimum": 0, "maximum": 150},
  "pets": {"type": "array", "maxItems": 2, "items": {"type": "object", "properties": {
     "kind": {"enum": ["cat", "dog"]}, "weight": {"type": "number", "minimum": 0, "maximum": 99}},
     "required": ["kind", "weight"], "additionalProperties": false}}},
  "required": ["name", "mood", "age", "pets"], "additionalProperties": false})";

LlmConfig tiny_config() {
  LlmConfig config;
  config.device = "cpu";
  config.model = FOVEAL_SOURCE_DIR "/tests/golden/llama3";  // 384 logits, the tokenizer has 265
  config.tokenizer = FOVEAL_SOURCE_DIR "/src/tokenizer/testdata/byte_level.json";
  config.threads = 2;
  config.kv_cache_config.max_tokens = 4096;
  return config;
}

SamplingParams guided(GuidedDecoding::Kind kind, std::string text, uint64_t seed) {
  SamplingParams out;
  out.max_tokens = 400;
  out.temperature = 1.5;
  out.seed = seed;
  out.guided = GuidedDecoding{.kind = kind, .text = std::move(text), .choices = {}};
  return out;
}

void check_person(const std::string& text) {
  boost::system::error_code error;
  const json::value value = json::parse(text, error);
  ASSERT_FALSE(error) << text;
  const json::object& object = value.as_object();
  EXPECT_EQ(object.size(), 4U) << text;
  EXPECT_TRUE(object.at("name").is_string()) << text;
  const json::value& mood = object.at("mood");
  EXPECT_TRUE(mood == "happy" || mood == "s\u00fc\"\u00df") << text;
  const auto age = json::value_to<int64_t>(object.at("age"));
  EXPECT_TRUE(age >= 0 && age <= 150) << text;
  EXPECT_LE(object.at("pets").as_array().size(), 2U) << text;
  for (const json::value& pet : object.at("pets").as_array()) {
    const json::value& kind = pet.at("kind");
    EXPECT_TRUE(kind == "cat" || kind == "dog") << text;
    const double weight = json::value_to<double>(pet.at("weight"));
    EXPECT_TRUE(weight >= 0 && weight <= 99) << text;
  }
}

TEST(Guided, TextsFollowTheSchemaWhateverTheModelSays) {
  LLM llm(tiny_config());
  int ended = 0;
  for (uint64_t seed = 0; seed < 10; ++seed) {
    const CompletionOutput out =
        llm.generate({.text = "who?"}, guided(GuidedDecoding::Kind::kJsonSchema, kSchema, seed))
            .outputs[0];
    if (out.finish_reason == FinishReason::kLength) continue;  // blanks, or digits of a number
    ended += 1;
    EXPECT_EQ(out.finish_reason, FinishReason::kStop);
    check_person(out.text);
  }
  EXPECT_GE(ended, 3);
}

TEST(Guided, SeedsCompletionsAndPreemptionGiveTheSameTexts) {
  SamplingParams sampling = guided(GuidedDecoding::Kind::kRegex, "[a-f]{60}(x|y)[0-9]{40}", 7);
  std::vector<std::string> alone;
  LlmConfig config = tiny_config();
  {
    LLM llm(config);
    for (uint64_t idx = 0; idx < 4; ++idx) {
      sampling.seed = 7 + idx;
      alone.push_back(llm.generate({.text = "hello world"}, sampling).outputs[0].text);
      EXPECT_TRUE(std::regex_match(alone.back(), std::regex("[a-f]{60}[xy][0-9]{40}")));
    }
    EXPECT_NE(alone[0], alone[1]);
  }
  sampling.seed = 7;
  sampling.n = 4;
  config.kv_cache_config.max_tokens = 256;  // four times 112 do not fit
  LLM llm(config);
  const RequestOutput out = llm.generate({.text = "hello world"}, sampling);
  for (size_t idx = 0; idx < 4; ++idx) EXPECT_EQ(out.outputs[idx].text, alone[idx]);
  EXPECT_GT(llm.stats().preemptions, 0U);
}

TEST(Guided, EndTokensMinTokensAndBans) {
  LLM llm(tiny_config());
  const int32_t end = 2;  // of the checkpoint; to this tokenizer it is the byte 2
  SamplingParams sampling = guided(GuidedDecoding::Kind::kRegex, "a+", 1);
  sampling.max_tokens = 40;
  sampling.min_tokens = 20;
  sampling.logit_bias[end] = 100;
  CompletionOutput out = llm.generate({.text = "x"}, sampling).outputs[0];
  EXPECT_EQ(out.text, std::string(20, 'a') + "\x02");  // ends as soon as it may
  EXPECT_EQ(out.token_ids.back(), end);
  sampling.ignore_eos = true;
  out = llm.generate({.text = "x"}, sampling).outputs[0];
  EXPECT_EQ(out.text, std::string(40, 'a'));
  EXPECT_EQ(out.finish_reason, FinishReason::kLength);
  sampling.guided->text = "aaa";  // the grammar's end stands above both
  out = llm.generate({.text = "x"}, sampling).outputs[0];
  EXPECT_EQ(out.text, "aaa");
  EXPECT_EQ(out.finish_reason, FinishReason::kStop);
  sampling.stop = {"aa"};
  out = llm.generate({.text = "x"}, sampling).outputs[0];
  EXPECT_EQ(out.text,
            "a"
            "aa");  // min_tokens is not reached
  sampling.min_tokens = 0;
  EXPECT_EQ(llm.generate({.text = "x"}, sampling).outputs[0].text, "");
  sampling.bad_words = {{'a'}};
  EXPECT_THROW(llm.generate({.text = "x"}, sampling), Error);
}

TEST(Guided, LogprobsAreTheModelsOwn) {
  LLM llm(tiny_config());
  SamplingParams sampling;
  sampling.max_tokens = 1;
  sampling.logprobs = 20;
  const CompletionOutput plain = llm.generate({.text = "x"}, sampling).outputs[0];
  sampling.guided = GuidedDecoding{GuidedDecoding::Kind::kChoice, "", {"a", "b"}};
  const CompletionOutput chosen = llm.generate({.text = "x"}, sampling).outputs[0];
  EXPECT_TRUE(chosen.text == "a" || chosen.text == "b");
  ASSERT_EQ(plain.top_logprobs[0].size(), chosen.top_logprobs[0].size());
  for (size_t at = 0; at < plain.top_logprobs[0].size(); ++at) {
    EXPECT_EQ(plain.top_logprobs[0][at].token, chosen.top_logprobs[0][at].token);
    EXPECT_EQ(plain.top_logprobs[0][at].logprob, chosen.top_logprobs[0][at].logprob);
  }
}

TEST(Guided, BadOnesFailAloneAndCancelledOnesLeave) {
  LLM llm(tiny_config());
  SamplingParams sampling = guided(GuidedDecoding::Kind::kRegex, "[ab]{300}", 3);
  const std::string calm = llm.generate({.text = "x"}, sampling).outputs[0].text;
  engine_testing::Hold hold(llm);  // 300 tokens take a tiny model no longer than a compile
  Generation good = llm.submit({.text = "x"}, sampling);
  Generation cancelled = llm.submit({.text = "y"}, sampling);
  cancelled.cancel();
  EXPECT_THROW(llm.submit({.text = "x"}, guided(GuidedDecoding::Kind::kRegex, "(", 3)), Error);
  EXPECT_THROW(llm.submit({.text = "x"}, guided(GuidedDecoding::Kind::kGrammar, "no", 3)), Error);
  hold.release();
  EXPECT_EQ(good.result().outputs[0].text, calm);
  EXPECT_EQ(cancelled.result().outputs[0].finish_reason, FinishReason::kCancelled);
}

class GuidedReal : public testing::Test {
 protected:
  void SetUp() override {
    const char* model = std::getenv("FOVEAL_TEST_MODEL");
    if (model == nullptr) GTEST_SKIP() << "FOVEAL_TEST_MODEL is not set";
    LlmConfig config;
    config.device = "cpu";
    config.model = model;
    llm_ = std::make_unique<LLM>(config);
  }
  std::unique_ptr<LLM> llm_;
};

TEST_F(GuidedReal, JsonIsValidAtAnyTemperature) {
  std::vector<Generation> running;
  for (const double temperature : {0.0, 0.7, 1.5, 1.5}) {
    SamplingParams sampling = guided(GuidedDecoding::Kind::kJsonSchema, kSchema, running.size());
    sampling.temperature = temperature;
    sampling.n = temperature == 0 ? 1 : 2;
    const std::string ask = R"([{"role": "user", "content": "Describe a person as JSON."}])";
    running.push_back(llm_->submit({.token_ids = llm_->chat_token_ids(ask)}, sampling));
  }
  int ended = 0;
  for (Generation& generation : running) {
    for (const CompletionOutput& out : generation.result().outputs) {
      if (out.finish_reason != FinishReason::kStop) continue;
      ended += 1;
      check_person(out.text);
    }
  }
  EXPECT_GE(ended, 5);
}

TEST_F(GuidedReal, ChoicesRegexesAndGrammars) {
  SamplingParams sampling = guided(GuidedDecoding::Kind::kChoice, "", 1);
  sampling.guided->choices = {"positive", "negative"};
  const std::string answer =
      llm_->generate({.text = "I love it. Sentiment:"}, sampling).outputs[0].text;
  EXPECT_TRUE(answer == "positive" || answer == "negative") << answer;
  const std::string call = "(\\([0-9]{3}\\) )?[0-9]{3}-[0-9]{4}";
  const std::string phone =
      llm_->generate({.text = "Call"}, guided(GuidedDecoding::Kind::kRegex, call, 2))
          .outputs[0]
          .text;
  EXPECT_TRUE(std::regex_match(phone, std::regex(call))) << phone;
  const std::string sum = "start: N (\"+\" N){1,3}\nN: /[0-9]{1,3}/";
  const std::string total =
      llm_->generate({.text = "1+2"}, guided(GuidedDecoding::Kind::kGrammar, sum, 3))
          .outputs[0]
          .text;
  EXPECT_TRUE(std::regex_match(total, std::regex("[0-9]{1,3}(\\+[0-9]{1,3}){1,3}"))) << total;
}

/// A text that fits is let through token by token, and the masks forbid most of the rest.
TEST_F(GuidedReal, MasksLetAFittingTextThrough) {
  const auto checkpoint = model::Checkpoint::open(std::getenv("FOVEAL_TEST_MODEL"));
  const auto tokenizer = engine::load_tokenizer("", *checkpoint);
  const std::string text =
      "{\"name\": \"Ann Lee\", \"mood\": \"happy\", \"age\": 42, \"pets\": [{\"kind\": \"cat\", "
      "\"weight\": 4.25}]}";
  for (const auto kind : {GuidedDecoding::Kind::kJsonSchema, GuidedDecoding::Kind::kJsonObject}) {
    const bool schema = kind == GuidedDecoding::Kind::kJsonSchema;
    const GuidedDecoding guided{kind, schema ? kSchema : "", {}};
    auto constraint = tokenizer->make_constraint(guided, tokenizer->end_tokens());
    int64_t fewest = tokenizer->vocab_size();
    for (const int32_t token : tokenizer->encode(text, false)) {
      const std::span<const uint32_t> allowed = constraint.allowed();
      const auto at = static_cast<size_t>(token);
      ASSERT_EQ(allowed[at / 32] >> (at % 32) & 1U, 1U) << tokenizer->token_bytes(token);
      int64_t count = 0;
      for (const uint32_t word : allowed) count += std::popcount(word);
      fewest = std::min(fewest, count);
      constraint.accept(token);
    }
    EXPECT_LT(fewest, tokenizer->vocab_size() / 100);  // after a key only a colon may follow
  }
}

}  // namespace
}  // namespace foveal

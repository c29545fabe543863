#include <gtest/gtest.h>

#include <random>

#include "foveal/error.h"
#include "tokenizer/test_vocab.h"
#include "tokenizer/utf8.h"

namespace foveal::tokenizer {
namespace {

uint64_t fresh_seed() {
  const uint64_t seed = std::random_device{}();
  ::testing::Test::RecordProperty("seed", std::to_string(seed));
  return seed;
}

/// Whole characters only: what is cut off at the end would not decode to itself.
bool whole(const std::string& text) { return to_utf8(text) == text; }

TEST(Stream, SaysWhatBatchDecodeSays) {
  const uint64_t seed = fresh_seed();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937_64 random(seed);
  for (const TestVocab& test : {byte_level_vocab(), sentence_vocab()}) {
    const auto tokenizer = test.load();
    for (int round = 0; round < 2000; ++round) {
      const bool skip = round % 2 == 0;
      std::vector<int32_t> ids(random() % 24);
      for (int32_t& id : ids) id = static_cast<int32_t>(random() % tokenizer->vocab_size());
      StreamDecoder stream(*tokenizer, skip);
      std::string text;
      for (const int32_t id : ids) {
        const std::string piece = stream.push(id);
        ASSERT_TRUE(whole(piece));
        text += piece;
      }
      text += stream.flush();
      ASSERT_EQ(text, tokenizer->decode(ids, skip)) << ::testing::PrintToString(ids);
    }
  }
}

TEST(Stream, HoldsBytesUntilTheCharacterIsWhole) {
  const auto tokenizer = byte_level_vocab().load();
  StreamDecoder stream(*tokenizer);
  EXPECT_EQ(stream.push(0xf0), "");
  EXPECT_EQ(stream.push(0x9f), "");
  EXPECT_EQ(stream.push(0x99), "");
  EXPECT_EQ(stream.push(0x82), "\U0001f642");
  EXPECT_EQ(stream.push(0xe2), "");
  EXPECT_EQ(stream.push('a'), "\ufffda");
  EXPECT_EQ(stream.push(0xc3), "");
  EXPECT_EQ(stream.push(262), "");  // a control token does not end the character
  EXPECT_EQ(stream.push(0xa9), "\u00e9");
  EXPECT_EQ(stream.push(0xe2), "");
  EXPECT_EQ(stream.flush(), "\ufffd");
  EXPECT_EQ(stream.flush(), "");
}

TEST(Stream, ReplacesMaximalParts) {
  EXPECT_EQ(to_utf8("\xf0\x9f\x99"), "\ufffd");
  EXPECT_EQ(to_utf8("\xe1\x80\xe2\xf0\x91\x92\xf1\xbf\x41"), "\ufffd\ufffd\ufffd\ufffd\x41");
  EXPECT_EQ(to_utf8("\xed\xa0\x80"), "\ufffd\ufffd\ufffd");
  EXPECT_EQ(to_utf8("\xc0\xaf"), "\ufffd\ufffd");
  EXPECT_EQ(incomplete_suffix("a\xf4\x8f\xbf"), 3u);
  EXPECT_EQ(incomplete_suffix("a\xf4\x90"), 0u);
  EXPECT_EQ(incomplete_suffix("\xe2\x82\xac"), 0u);
}

/// What a caller sees of `text` cut at `cuts`: shown text, and whether it stopped.
std::pair<std::string, bool> watch(const std::string& text, const std::vector<size_t>& cuts,
                                   const std::vector<std::string>& stops, bool include) {
  StopMatcher matcher(stops, include);
  std::string shown;
  size_t begin = 0;
  for (const size_t cut : cuts) {
    const auto result = matcher.push(std::string_view(text).substr(begin, cut - begin));
    shown += result.text;
    if (result.stopped) return {shown, true};
    begin = cut;
  }
  const auto result = matcher.push(std::string_view(text).substr(begin));
  shown += result.text;
  if (result.stopped) return {shown, true};
  return {shown + matcher.flush(), false};
}

TEST(StopMatcher, FindsStopsOverAllSplits) {
  struct Case {
    std::string text;
    std::vector<std::string> stops;
    std::string before, with;
    bool stopped;
  };
  const Case cases[] = {
      {"one END two", {"END"}, "one ", "one END", true},
      {"aaab", {"aab"}, "a", "aaab", true},
      {"ababc x", {"abc", "bc"}, "ab", "ababc", true},
      {"xyz", {"yz", "y"}, "x", "xy", true},
      {"no stop EN", {"END"}, "no stop EN", "no stop EN", false},
      {"\n\nUser:", {"\n\nUser:", "User"}, "\n\n", "\n\nUser", true},
      {"abc", {}, "abc", "abc", false},
  };
  for (const Case& test : cases) {
    const size_t gaps = test.text.size() - 1;
    for (uint32_t mask = 0; mask < (1u << gaps); ++mask) {
      std::vector<size_t> cuts;
      for (size_t i = 0; i < gaps; ++i) {
        if (mask >> i & 1) cuts.push_back(i + 1);
      }
      ASSERT_EQ(watch(test.text, cuts, test.stops, false), std::pair(test.before, test.stopped));
      ASSERT_EQ(watch(test.text, cuts, test.stops, true), std::pair(test.with, test.stopped));
    }
  }
  EXPECT_THROW(StopMatcher({""}, false), Error);
}

TEST(StopMatcher, HoldsBackOnlyPossibleBeginnings) {
  StopMatcher matcher({"STOP"}, false);
  EXPECT_EQ(matcher.push("go ST").text, "go ");
  EXPECT_EQ(matcher.push("AY S").text, "STAY ");
  EXPECT_EQ(matcher.push("!").text, "S!");
  EXPECT_TRUE(matcher.push("STOP").stopped);
  EXPECT_TRUE(matcher.push("more").stopped);
  EXPECT_EQ(matcher.flush(), "");
}

}  // namespace
}  // namespace foveal::tokenizer

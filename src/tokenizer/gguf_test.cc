#include <gtest/gtest.h>

#include "foveal/error.h"
#include "tokenizer/test_vocab.h"

namespace foveal::tokenizer {
namespace {

using Ids = std::vector<int32_t>;

ErrorKind kind_of(const TestVocab& test) {
  try {
    test.load();
  } catch (const Error& error) {
    EXPECT_TRUE(std::string(error.what()).starts_with("[tokenizer] got ")) << error.what();
    return error.kind();
  }
  ADD_FAILURE() << "no error";
  return ErrorKind::kInternal;
}

TEST(GgufVocab, MergesBytesWithinWords) {
  const auto tokenizer = byte_level_vocab().load();
  EXPECT_EQ(tokenizer->encode("hello whe", false), (Ids{259, 260, 256}));
  EXPECT_EQ(tokenizer->encode("", false), Ids{});
  EXPECT_EQ(tokenizer->vocab_size(), 266);
  EXPECT_EQ(tokenizer->describe(), "BPE, 266 tokens, pre-tokenizer gpt-2");
  EXPECT_EQ(tokenizer->end_tokens(), (Ids{262, 264}));
  EXPECT_EQ(tokenizer->token_id("hello"), 259);
  EXPECT_EQ(tokenizer->token_id("nothing"), std::nullopt);
}

TEST(GgufVocab, SpecialSpellingIsTextUnlessAskedFor) {
  const auto tokenizer = byte_level_vocab().load();
  const std::string text = "<|im_start|>hello<tool>";
  EXPECT_EQ(tokenizer->encode(text, true), (Ids{261, 259, 265}));
  Ids plain;
  for (const char c : std::string("<|im_start|>")) plain.push_back(c);
  plain.push_back(259);
  plain.push_back(265);  // not a control token: found either way
  EXPECT_EQ(tokenizer->encode(text, false), plain);
  EXPECT_EQ(tokenizer->decode(plain, true), text);
  EXPECT_EQ(tokenizer->decode(Ids{261, 259, 265}, true), "hello<tool>");
  EXPECT_TRUE(tokenizer->is_special(261));
  EXPECT_FALSE(tokenizer->is_special(265));
  EXPECT_FALSE(tokenizer->is_special(-1));
}

TEST(GgufVocab, FamiliesCutWordsDifferently) {
  // "llhe": joined letters; digits and case endings tell the families apart by their merges.
  const auto cut = [](const std::string& pre, std::string left, std::string right) {
    TestVocab test = byte_level_vocab(pre);
    const int32_t joined = test.add(left + right, 1);
    test.vocab.scores.clear();
    test.merge(left + " " + right);
    const Ids ids = test.load()->encode(left + right, false);
    return ids != Ids{joined};
  };
  EXPECT_FALSE(cut("gpt-2", "1", "2"));
  EXPECT_TRUE(cut("smollm", "1", "2"));
  EXPECT_TRUE(cut("qwen2", "1", "2"));
  EXPECT_FALSE(cut("llama-bpe", "1", "2"));
  EXPECT_FALSE(cut("deepseek-v3", "1", "2"));
  EXPECT_FALSE(cut("llama3", "a", "B"));
  EXPECT_TRUE(cut("tekken", "a", "B"));
  EXPECT_TRUE(cut("gpt-4o", "a", "B"));
  EXPECT_TRUE(cut("gpt-2", "(", "a"));
  EXPECT_FALSE(cut("llama3", "(", "a"));
}

TEST(GgufVocab, QwenNormalizesToNfc) {
  const std::string composed = "\u00e9", decomposed = "e\u0301";
  const auto qwen = byte_level_vocab("qwen2").load();
  EXPECT_EQ(qwen->encode(decomposed, false), qwen->encode(composed, false));
  const auto llama = byte_level_vocab("llama3").load();
  EXPECT_NE(llama->encode(decomposed, false), llama->encode(composed, false));
}

TEST(GgufVocab, SentencePieceMergesByScore) {
  TestVocab test = sentence_vocab();
  const auto tokenizer = test.load();
  const auto id = [&](std::string_view token) { return tokenizer->token_id(token).value(); };
  // "ab" scores best, so "bc" never forms; then "_ab" before "abc".
  EXPECT_EQ(tokenizer->encode("abc", false), (Ids{id("\u2581ab"), id("c")}));
  EXPECT_EQ(tokenizer->encode("a\n\nz", false),
            (Ids{id("\u2581a"), id("\n\n"), id("\u2581"), id("<0x7A>")}));
  EXPECT_EQ(tokenizer->decode(tokenizer->encode("abc \u00e9", false), true), "abc \u00e9");
  EXPECT_EQ(tokenizer->token_bytes(id("<0x7A>")), "z");
  EXPECT_EQ(tokenizer->token_bytes(id("\u2581ab")), " ab");
  EXPECT_EQ(tokenizer->encode("<s>", true), Ids{1});
  EXPECT_EQ(tokenizer->encode("<s>", false).size(), 4u);
  EXPECT_TRUE(tokenizer->adds_bos());
  test.vocab.add_space_prefix = false;
  const auto bare = test.load();
  EXPECT_EQ(bare->encode("abc", false), (Ids{id("abc")}));
  EXPECT_EQ(bare->decode(bare->encode(" abc", false), true), " abc");
}

TEST(GgufVocab, RefusesWhatItCannotRead) {
  TestVocab test = byte_level_vocab("no-such");
  EXPECT_EQ(kind_of(test), ErrorKind::kUnsupported);
  test = byte_level_vocab();
  test.vocab.model = "rwkv";
  EXPECT_EQ(kind_of(test), ErrorKind::kUnsupported);
  test = byte_level_vocab();
  test.merge("he nothing");
  EXPECT_EQ(kind_of(test), ErrorKind::kCorruptFile);
  test = byte_level_vocab();
  test.merge("hello");
  EXPECT_EQ(kind_of(test), ErrorKind::kCorruptFile);
  test = byte_level_vocab();
  test.vocab.types.pop_back();
  EXPECT_EQ(kind_of(test), ErrorKind::kCorruptFile);
  test = byte_level_vocab();
  test.vocab.bos = 100000;
  EXPECT_EQ(kind_of(test), ErrorKind::kCorruptFile);
  test = byte_level_vocab();
  test.add("\xff\xfe", 1);
  test.vocab.scores.clear();
  EXPECT_EQ(kind_of(test), ErrorKind::kCorruptFile);
  test = sentence_vocab();
  test.vocab.scores.clear();
  EXPECT_EQ(kind_of(test), ErrorKind::kCorruptFile);
  EXPECT_EQ(kind_of(TestVocab{.vocab = {.model = "gpt2"}, .strings = {}}), ErrorKind::kCorruptFile);
}

TEST(GgufVocab, RefusesLongControlTokensAtOnce) {
  TestVocab test = byte_level_vocab();
  test.add(std::string(50000, 'a'), 3);
  test.vocab.scores.clear();
  EXPECT_EQ(kind_of(test), ErrorKind::kCorruptFile);
  test = byte_level_vocab();
  const int32_t id = test.add(std::string(1024, 'a'), 3);
  test.vocab.scores.clear();
  EXPECT_EQ(test.load()->encode(std::string(1025, 'a'), true), (Ids{id, 'a'}));
}

TEST(GgufVocab, RefusesBadTextAndIds) {
  const auto tokenizer = byte_level_vocab().load();
  for (const std::string text : {"a\xff", "\xc3", "\xed\xa0\x80", "\xf4\x90\x80\x80"}) {
    try {
      tokenizer->encode(text, true);
      ADD_FAILURE() << "no error";
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kInvalidArgument);
    }
  }
  for (const int32_t id : {-1, 266, INT32_MAX, INT32_MIN}) {
    EXPECT_THROW(tokenizer->decode(Ids{id}, false), Error);
    EXPECT_THROW(tokenizer->token_bytes(id), Error);
  }
}

}  // namespace
}  // namespace foveal::tokenizer

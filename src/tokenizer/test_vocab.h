#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "tokenizer/tokenizer.h"

namespace foveal::tokenizer {

/// Small vocabularies for tests, with the strings they point into.
struct TestVocab {
  GgufVocab vocab;
  std::deque<std::string> strings;

  int32_t add(std::string token, int32_t type, float score = 0) {
    strings.push_back(std::move(token));
    vocab.tokens.push_back(strings.back());
    vocab.types.push_back(type);
    vocab.scores.push_back(score);
    return static_cast<int32_t>(vocab.tokens.size()) - 1;
  }
  void merge(std::string line) {
    strings.push_back(std::move(line));
    vocab.merges.push_back(strings.back());
  }
  std::unique_ptr<Tokenizer> load() const { return Tokenizer::from_gguf(vocab); }
};

/// GPT-2's character for a byte, as UTF-8.
inline std::string byte_char(int byte) {
  const auto printable = [](int b) {
    return (b >= 0x21 && b <= 0x7e) || (b >= 0xa1 && b <= 0xff && b != 0xad);
  };
  int code = byte;
  if (!printable(byte)) {
    code = 0x100;
    for (int b = 0; b < byte; ++b) code += printable(b) ? 0 : 1;
  }
  if (code < 0x80) return {static_cast<char>(code)};
  return {static_cast<char>(0xc0 | code >> 6), static_cast<char>(0x80 | (code & 0x3f))};
}

/// Ids 0..255 are the bytes; 256.. "he", "ll", "hell", "hello", " w"; then control tokens
/// <|im_start|>, <|im_end|>, <|user|>, <|end|>, and the ordinary added token <tool>.
inline TestVocab byte_level_vocab(const std::string& pre = "gpt-2") {
  TestVocab test;
  test.vocab.model = "gpt2";
  test.vocab.pre = pre;
  for (int byte = 0; byte < 256; ++byte) test.add(byte_char(byte), 1);
  const std::string space = byte_char(' ');
  for (const std::string& token : {std::string("he"), std::string("ll"), std::string("hell"),
                                   std::string("hello"), space + "w"}) {
    test.add(token, 1);
  }
  for (const std::string& line : {std::string("h e"), std::string("l l"), std::string("he ll"),
                                  std::string("hell o"), space + " w"}) {
    test.merge(line);
  }
  test.vocab.bos = test.add("<|im_start|>", 3);
  test.vocab.eos = test.add("<|im_end|>", 3);
  test.add("<|user|>", 3);
  test.add("<|end|>", 3);
  test.add("<tool>", 4);
  test.vocab.scores.clear();
  return test;
}

/// <unk>, <s>, </s>, 256 byte tokens, then pieces whose scores rank their merges.
inline TestVocab sentence_vocab() {
  TestVocab test;
  test.vocab.model = "llama";
  test.vocab.unk = test.add("<unk>", 2);
  test.vocab.bos = test.add("<s>", 3);
  test.vocab.eos = test.add("</s>", 3);
  for (int byte = 0; byte < 256; ++byte) {
    char name[8];
    std::snprintf(name, sizeof name, "<0x%02X>", byte);
    test.add(name, 6);
  }
  for (const char* piece : {"ab", "\u2581a", "bc", "\u2581ab", "abc", "\u2581", "a", "b", "c"}) {
    test.add(piece, 1, -static_cast<float>(test.vocab.tokens.size()));
  }
  test.add("\n\n", 4);
  test.vocab.add_bos = true;
  return test;
}

}  // namespace foveal::tokenizer

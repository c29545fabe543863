// Input: a GGUF vocabulary as lines. First "MODEL PRE"; then "TYPE SCORE TOKEN" for every token
// ("\\n" stands for a line break); after "%%merges" a merge a line; after "%%text" a text to
// encode.
#include <cstdint>
#include <cstdlib>
#include <deque>
#include <string>
#include <string_view>

#include "foveal/error.h"
#include "tokenizer/tokenizer.h"

namespace {

using foveal::tokenizer::GgufVocab;

/// Up to the next `end`, which is taken off, too.
std::string_view next(std::string_view& rest, char end) {
  const size_t at = rest.find(end);
  const std::string_view piece = rest.substr(0, at);
  rest.remove_prefix(at == std::string_view::npos ? rest.size() : at + 1);
  return piece;
}

void add_token(std::string_view line, GgufVocab& vocab, std::deque<std::string>& strings) {
  const auto type =
      static_cast<int32_t>(std::strtol(std::string(next(line, ' ')).c_str(), nullptr, 10));
  const float score = std::strtof(std::string(next(line, ' ')).c_str(), nullptr);
  if (type == 3 && !vocab.bos) vocab.bos = static_cast<int32_t>(vocab.tokens.size());
  if (type == 2) vocab.unk = static_cast<int32_t>(vocab.tokens.size());
  std::string& token = strings.emplace_back(line);
  for (size_t at = token.find("\\n"); at != std::string::npos; at = token.find("\\n")) {
    token[at] = '\n';
    token.erase(at + 1, 1);
  }
  vocab.types.push_back(type);
  vocab.scores.push_back(score);
  vocab.tokens.push_back(token);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size > 64 << 10) return 0;
  std::string_view rest(reinterpret_cast<const char*>(data), size);
  GgufVocab vocab;
  std::deque<std::string> strings;
  std::string_view head = next(rest, '\n');
  vocab.model = next(head, ' ');
  vocab.pre = next(head, ' ');
  std::string_view line;
  while (!rest.empty() && (line = next(rest, '\n')) != "%%merges") {
    add_token(line, vocab, strings);
  }
  while (!rest.empty() && (line = next(rest, '\n')) != "%%text") vocab.merges.push_back(line);
  vocab.chat_template = "{% for m in messages %}<s>{{ m.content }}{% endfor %}";
  try {
    const auto tokenizer = foveal::tokenizer::Tokenizer::from_gguf(vocab);
    for (const bool special : {false, true}) {
      const auto ids = tokenizer->encode(rest, special);
      tokenizer->decode(ids, special);
    }
    foveal::tokenizer::encode_chat(*tokenizer, R"([{"role":"user","content":"<s>hello</s>"}])", {});
  } catch (const foveal::Error& error) {
    if (error.kind() == foveal::ErrorKind::kInternal) __builtin_trap();
  }
  return 0;
}

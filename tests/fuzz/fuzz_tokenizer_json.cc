// Input: a tokenizer.json, then optionally a line "%%text" and a text to encode with it.
#include <cstdint>
#include <string_view>

#include "tokenizer/text_tokenizer.h"

using foveal::Error;
using foveal::tokenizer::bytes_of;
using foveal::tokenizer::TextTokenizer;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size > 64 << 10) return 0;
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  constexpr std::string_view kMark = "\n%%text\n";
  const size_t mark = input.find(kMark);
  const std::string_view json = input.substr(0, mark);
  const std::string_view text = mark == std::string_view::npos ? "Hello  w\u00f6rld<s> 123"
                                                               : input.substr(mark + kMark.size());
  try {
    const TextTokenizer tokenizer(foveal::tokenizer::bridged(
        "tokenizer", [&] { return foveal::text::load_json(bytes_of(json), {}, {}); }));
    for (const bool special : {false, true}) {
      const auto ids = tokenizer.encode(text, special);
      tokenizer.decode(ids, special);
      foveal::tokenizer::StreamDecoder stream(tokenizer, special);
      for (const int32_t id : ids) stream.push(id);
    }
  } catch (const Error&) {
    // Refusing is right; crashing, hanging and other exceptions are not.
  }
  return 0;
}

// Input: a tokenizer.json, then optionally a line "%%text" and a text to encode with it, then
// optionally a line "%%config" and the tokenizer_config.json beside it.
#include <cstdint>
#include <string_view>

#include "tokenizer/text_tokenizer.h"

using foveal::Error;
using foveal::tokenizer::bytes_of;
using foveal::tokenizer::TextTokenizer;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size > 64 << 10) return 0;
  std::string_view input(reinterpret_cast<const char*>(data), size);
  constexpr std::string_view kConfigMark = "\n%%config\n";
  const size_t config_mark = input.find(kConfigMark);
  std::string_view config;
  if (config_mark != std::string_view::npos) {
    config = input.substr(config_mark + kConfigMark.size());
    input = input.substr(0, config_mark);
  }
  constexpr std::string_view kMark = "\n%%text\n";
  const size_t mark = input.find(kMark);
  const std::string_view json = input.substr(0, mark);
  const std::string_view text = mark == std::string_view::npos ? "Hello  w\u00f6rld<s> 123"
                                                               : input.substr(mark + kMark.size());
  try {
    const TextTokenizer tokenizer(foveal::tokenizer::bridged("tokenizer", [&] {
      return foveal::text::load_json(bytes_of(json), bytes_of(config), {});
    }));
    for (const bool special : {false, true}) {
      const auto ids = tokenizer.encode(text, special);
      tokenizer.decode(ids, special);
      foveal::tokenizer::StreamDecoder stream(tokenizer, special);
      for (const int32_t id : ids) stream.push(id);
    }
    if (!tokenizer.chat_template().empty()) {
      foveal::tokenizer::encode_chat(tokenizer, R"([{"role":"user","content":"<s>a</s>"}])", {});
    }
  } catch (const Error&) {
    // Refusing is right; crashing, hanging and other exceptions are not.
  }
  return 0;
}

// Input: a chat template, then optionally a line "%%messages" and a JSON list of messages.
#include <cstdint>
#include <string_view>

#include "foveal/error.h"
#include "tokenizer/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size > 64 << 10) return 0;
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  constexpr std::string_view kMark = "\n%%messages\n";
  const size_t mark = input.find(kMark);
  const std::string_view messages =
      mark == std::string_view::npos
          ? R"([{"role":"system","content":"s"},{"role":"user","content":[{"type":"text","text":"t"}]}])"
          : input.substr(mark + kMark.size());
  foveal::tokenizer::RenderOptions options;
  options.extra_json = R"({"tools": [{"name": "f", "arguments": {"x": 1.5}}], "deep": [[[]]]})";
  try {
    foveal::tokenizer::render_chat(input.substr(0, mark), messages, "<s>", "</s>", options);
  } catch (const foveal::Error&) {
    // Refusing is right; crashing, hanging and other exceptions are not.
  }
  return 0;
}

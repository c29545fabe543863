#include "tokenizer/text_tokenizer.h"

namespace foveal::tokenizer {

std::string render_chat(std::string_view chat_template, std::string_view messages_json,
                        std::string_view bos_token, std::string_view eos_token,
                        const RenderOptions& options) {
  const text::ChatFields fields{
      .chat_template = bytes_of(chat_template),
      .messages = bytes_of(messages_json),
      .bos = bytes_of(bos_token),
      .eos = bytes_of(eos_token),
      .add_generation_prompt = options.add_generation_prompt,
      .extra = bytes_of(options.extra_json),
  };
  return std::string(bridged("chat_template", [&] { return text::render_chat(fields); }));
}

std::vector<int32_t> encode_chat(const Tokenizer& tokenizer, std::string_view messages_json,
                                 const RenderOptions& options) {
  // Only this tokenizer can keep a message's content from becoming special tokens.
  const auto* known = dynamic_cast<const TextTokenizer*>(&tokenizer);
  FOVEAL_CHECK(known != nullptr, ErrorKind::kUnsupported, "chat_template",
               "got a foreign tokenizer; need one from Tokenizer::from_file or from_gguf");
  const text::ChatFields fields{
      .chat_template = {},
      .messages = bytes_of(messages_json),
      .bos = {},
      .eos = {},
      .add_generation_prompt = options.add_generation_prompt,
      .extra = bytes_of(options.extra_json),
  };
  const rust::Vec<int32_t> ids =
      bridged("chat_template", [&] { return text::encode_chat(known->inner(), fields); });
  return {ids.begin(), ids.end()};
}

}  // namespace foveal::tokenizer

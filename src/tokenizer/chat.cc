#include "tokenizer/text_tokenizer.h"

namespace foveal::tokenizer {
namespace {

/// The most bytes of memory that a byte of messages takes as values and in the rendered text: 10
/// for long contents, 150 where it is a list of small objects.
constexpr uint64_t kRenderCost = 160;

uint64_t input_bytes(std::string_view messages_json, const RenderOptions& options) {
  return uint64_t{messages_json.size()} + options.extra_json.size();
}

}  // namespace

std::string render_chat(std::string_view chat_template, std::string_view messages_json,
                        std::string_view bos_token, std::string_view eos_token,
                        const RenderOptions& options) {
  check_memory(input_bytes(messages_json, options), kRenderCost, "chat_template", "messages");
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
  check_memory(input_bytes(messages_json, options), kRenderCost + known->encode_cost(),
               "chat_template", "messages");
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

#include "base/check.h"
#include "cli_options.h"
#include "commands.h"
#include "input.h"
#include "output.h"
#include "tokenizer_source.h"

namespace foveal::tools {
namespace {

struct RenderCommandOptions {
  TokenizerSource source;
  std::string extra = "{}";
  bool generation_prompt = true;
};

OptionGroup describe(RenderCommandOptions& options) {
  OptionGroup group{.fields = describe(options.source)};
  group.fields.push_back({.name = "extra",
                          .target = &options.extra,
                          .help = "more template variables as a JSON object"});
  group.fields.push_back({.name = "generation_prompt",
                          .target = &options.generation_prompt,
                          .help = "end with the opening of the assistant's answer"});
  return group;
}

std::string token_text(const tokenizer::Tokenizer& tokenizer, std::optional<int32_t> id) {
  return id ? tokenizer.decode(std::span(&*id, 1), /*skip_special=*/false) : std::string();
}

}  // namespace

int render_main(std::span<const std::string> args) {
  RenderCommandOptions own;
  Command command("render",
                  "A JSON list of messages on standard input to the model's chat prompt.");
  command.options("Render", describe(own));
  if (!command.parse(args)) return 0;

  const auto tokenizer = load(own.source);
  FOVEAL_CHECK(!tokenizer->chat_template().empty(), ErrorKind::kUnsupported, "render",
               "got a model without a chat template; need one with");
  const std::vector<int32_t>& ends = tokenizer->end_tokens();
  const std::string text = tokenizer::render_chat(
      tokenizer->chat_template(), read_input("-"), token_text(*tokenizer, tokenizer->bos()),
      token_text(*tokenizer, ends.empty() ? std::nullopt : std::optional(ends.front())),
      {.add_generation_prompt = own.generation_prompt, .extra_json = own.extra});
  write_out(text);
  return 0;
}

}  // namespace foveal::tools

#include "cli_options.h"
#include "commands.h"
#include "input.h"
#include "json_writer.h"
#include "output.h"
#include "tokenizer_source.h"

namespace foveal::tools {
namespace {

struct TokenizeOptions {
  TokenizerSource source;
  bool special = false;
  bool decode = false;
};

OptionGroup describe(TokenizeOptions& options) {
  OptionGroup group{.fields = describe(options.source)};
  group.fields.push_back({.name = "special",
                          .target = &options.special,
                          .help = "parse special tokens spelled out in the text"});
  group.fields.push_back(
      {.name = "decode", .target = &options.decode, .help = "read a JSON list of ids, write text"});
  return group;
}

}  // namespace

int tokenize_main(std::span<const std::string> args) {
  TokenizeOptions own;
  Command command("tokenize", "Text on standard input to a JSON list of token ids, or back.");
  command.options("Tokenize", describe(own));
  if (!command.parse(args)) return 0;

  const auto tokenizer = load(own.source);
  const std::string input = read_input("-");
  std::string output;
  if (own.decode) {
    if (!is_empty_list(input))
      output = tokenizer->decode(parse_token_ids(input), /*skip_special=*/false);
  } else {
    JsonWriter json;
    json.begin_array();
    for (const int32_t id : tokenizer->encode(input, own.special)) json.value(id);
    output = json.end_array().text() + "\n";
  }
  write_out(output);
  return 0;
}

}  // namespace foveal::tools

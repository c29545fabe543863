#include <cstdio>

#include "base/check.h"
#include "cli_options.h"
#include "commands.h"
#include "engine/load.h"
#include "input.h"
#include "json_writer.h"
#include "model/checkpoint.h"

namespace foveal::tools {
namespace {

struct TokenizeOptions {
  std::string model, tokenizer;
  bool special = false;
  bool decode = false;
};

OptionGroup describe(TokenizeOptions& options) {
  return {.fields = {{.name = "model",
                      .target = &options.model,
                      .help = "a .gguf file or a model's folder",
                      .short_flag = 'm',
                      .required = true},
                     {.name = "tokenizer",
                      .target = &options.tokenizer,
                      .help = "a tokenizer.json or its folder instead of the model's own"},
                     {.name = "special",
                      .target = &options.special,
                      .help = "parse special tokens spelled out in the text"},
                     {.name = "decode",
                      .target = &options.decode,
                      .help = "read a JSON list of ids, write text"}}};
}

}  // namespace

int tokenize_main(std::span<const std::string> args) {
  TokenizeOptions own;
  Command command("tokenize", "Text on standard input to a JSON list of token ids, or back.");
  command.options("Tokenize", describe(own));
  if (!command.parse(args)) return 0;

  const auto checkpoint = model::Checkpoint::open(own.model);
  const auto tokenizer = engine::load_tokenizer(own.tokenizer, *checkpoint);
  FOVEAL_CHECK(tokenizer != nullptr, ErrorKind::kUnsupported, "tokenizer",
               "got a model without one; need --tokenizer");
  const std::string input = read_input("-");
  std::string output;
  if (own.decode) {
    const bool empty = input.find_first_of("0123456789") == std::string::npos;
    if (!empty) output = tokenizer->decode(parse_token_ids(input), /*skip_special=*/false);
  } else {
    JsonWriter json;
    json.begin_array();
    for (const int32_t id : tokenizer->encode(input, own.special)) json.value(id);
    output = json.end_array().text() + "\n";
  }
  std::fwrite(output.data(), 1, output.size(), stdout);
  return 0;
}

}  // namespace foveal::tools

#include "tokenizer_source.h"

#include "base/check.h"
#include "engine/load.h"
#include "model/checkpoint.h"

namespace foveal::tools {

std::vector<OptionField> describe(TokenizerSource& source) {
  return {{.name = "model",
           .target = &source.model,
           .help = "a .gguf file or a model's folder",
           .short_flag = 'm',
           .required = true},
          {.name = "tokenizer",
           .target = &source.tokenizer,
           .help = "a tokenizer.json or its folder instead of the model's own"},
          {.name = "device",
           .target = &source.device,
           .help = "auto or cpu; text is handled on the CPU either way"}};
}

std::unique_ptr<tokenizer::Tokenizer> load_if_any(const TokenizerSource& source) {
  if (source.device != "auto") engine::check_device(source.device);
  const auto checkpoint = model::Checkpoint::open(source.model);
  return engine::load_tokenizer(source.tokenizer, *checkpoint);
}

std::unique_ptr<tokenizer::Tokenizer> load(const TokenizerSource& source) {
  auto tokenizer = load_if_any(source);
  FOVEAL_CHECK(tokenizer != nullptr, ErrorKind::kUnsupported, "tokenizer",
               "got a model without one; need --tokenizer");
  return tokenizer;
}

}  // namespace foveal::tools

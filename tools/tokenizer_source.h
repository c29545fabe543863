#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/options.h"
#include "tokenizer/tokenizer.h"

namespace foveal::tools {

/// Where a command that needs no weights gets its tokenizer from.
struct TokenizerSource {
  std::string model, tokenizer;
  std::string device =
      "auto";  ///< as for every command; text needs none, but a wrong one is refused
};

std::vector<OptionField> describe(TokenizerSource& source);

/// Null when the model has none.
std::unique_ptr<tokenizer::Tokenizer> load_if_any(const TokenizerSource& source);
/// Throws kUnsupported when the model has none.
std::unique_ptr<tokenizer::Tokenizer> load(const TokenizerSource& source);

}  // namespace foveal::tools

#include "tokenizer/bridge.h"

namespace foveal::tokenizer {

void rethrow(const rust::Error& error, std::string_view where) {
  const std::string_view text = error.what();
  const std::string_view message = text.empty() ? text : text.substr(1);
  ErrorKind kind = ErrorKind::kInternal;
  std::string_view need = "a bug report";  // where a library's own words say only what is wrong
  switch (text.empty() ? 'X' : text.front()) {
    case 'I':
      kind = ErrorKind::kInvalidArgument;
      need = "it well formed";
      break;
    case 'C':
      kind = ErrorKind::kCorruptFile;
      need = "an intact file";
      break;
    case 'U':
      kind = ErrorKind::kUnsupported;
      need = "one that is supported";
      break;
    default:
      break;
  }
  const bool got = message.starts_with("got ");
  const bool needs = message.find("; need ") != std::string_view::npos;
  throw_error(kind, where,
              fmt::format("{}{}{}{}", got ? "" : "got ", message, needs ? "" : "; need ",
                          needs ? "" : need));
}

}  // namespace foveal::tokenizer

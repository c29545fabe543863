#include "tokenizer/bridge.h"

namespace foveal::tokenizer {

void rethrow(const rust::Error& error, std::string_view where) {
  const std::string_view text = error.what();
  const std::string_view message = text.empty() ? text : text.substr(1);
  ErrorKind kind = ErrorKind::kInternal;
  switch (text.empty() ? 'X' : text.front()) {
    case 'I':
      kind = ErrorKind::kInvalidArgument;
      break;
    case 'C':
      kind = ErrorKind::kCorruptFile;
      break;
    case 'U':
      kind = ErrorKind::kUnsupported;
      break;
  }
  throw_error(kind, where, message);
}

}  // namespace foveal::tokenizer

#include "tokenizer/bridge.h"

#include <cstdint>
#include <utility>

#include "base/memory.h"

namespace foveal::tokenizer {

void rethrow(const rust::Error& error, std::string_view where) {
  const std::string_view text = error.what();
  const std::string_view message = text.empty() ? text : text.substr(1);
  ErrorKind kind = ErrorKind::kInternal;
  std::string_view need = "a bug report";  // where a library's own words say only what is wrong
  switch (text.empty() ? 'X' : text.front()) {
    case 'I':
      kind = ErrorKind::kInvalidArgument;
      need = "valid input";
      break;
    case 'C':
      kind = ErrorKind::kCorruptFile;
      need = "an intact file";
      break;
    case 'U':
      kind = ErrorKind::kUnsupported;
      need = "one that is supported";
      break;
    case 'M':
      kind = ErrorKind::kOutOfMemory;
      need = "more memory";
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

void check_memory(uint64_t bytes, uint64_t times, std::string_view where, std::string_view what) {
  constexpr uint64_t kSmall = 1 << 20;  // asking the system takes longer than such a text
  const uint64_t needed = bytes > UINT64_MAX / times ? UINT64_MAX : bytes * times;
  if (needed <= kSmall) return;
  const int64_t available = available_memory_bytes();
  FOVEAL_CHECK(std::cmp_less_equal(needed, available), ErrorKind::kOutOfMemory, where,
               "got {} of {} bytes and {} bytes of free memory; need {} bytes", what, bytes,
               available, needed);
}

}  // namespace foveal::tokenizer

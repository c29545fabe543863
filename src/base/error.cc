#include "base/error.h"

#include <string>

namespace foveal {
namespace {

constexpr size_t kMaxMessage = 2000;  // a hostile file must not be able to flood a log

std::string one_line(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7f) {
      out += fmt::format("\\x{:02x}", byte);
    } else {
      out += c;
    }
    if (out.size() > kMaxMessage) return out + "...";
  }
  return out;
}

}  // namespace

void throw_error(ErrorKind kind, std::string_view where, std::string_view message) {
  throw Error(kind, fmt::format("[{}] {}", where, one_line(message)));
}

}  // namespace foveal

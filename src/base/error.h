#pragma once

#include <fmt/format.h>

#include <string_view>

#include "foveal/error.h"

namespace foveal {

/// Throws `Error` with the text `[where] message`. Control characters in the message (they can come
/// from hostile files) are escaped so that an error always stays one printable line.
[[noreturn]] void throw_error(ErrorKind kind, std::string_view where, std::string_view message);

/// `fail(ErrorKind::kCorruptFile, "gguf", "got version {}; need 2 or 3", v)`.
template <class... Args>
[[noreturn]] void fail(ErrorKind kind, std::string_view where, fmt::format_string<Args...> format,
                       Args&&... args) {
  throw_error(kind, where, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace foveal

#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <string_view>
#include <utility>

namespace foveal {

enum class LogLevel : uint8_t { kError, kWarn, kInfo, kDebug };

/// `error`, `warn`, `info` or `debug`; throws kInvalidArgument for other words.
LogLevel parse_log_level(std::string_view text);
void set_log_level(LogLevel level);
LogLevel log_level();

/// Writes one line, `12:34:56.789 info  message`, to standard error. Control characters are
/// escaped, so that text from a file or a request cannot forge a line. Any thread may call.
void log_line(LogLevel level, std::string_view message);

/// Raw bytes to standard error, in one piece between log lines: for the progress bar.
/// `transient` text stays on the current line and is wiped before the next log line.
void write_stderr(std::string_view bytes, bool transient);

template <class... Args>
void log_at(LogLevel level, fmt::format_string<Args...> format, Args&&... args) {
  // Checked first: a debug line that is off must not cost its formatting.
  if (level <= log_level()) log_line(level, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void log_error(fmt::format_string<Args...> format, Args&&... args) {
  log_at(LogLevel::kError, format, std::forward<Args>(args)...);
}
template <class... Args>
void log_warn(fmt::format_string<Args...> format, Args&&... args) {
  log_at(LogLevel::kWarn, format, std::forward<Args>(args)...);
}
template <class... Args>
void log_info(fmt::format_string<Args...> format, Args&&... args) {
  log_at(LogLevel::kInfo, format, std::forward<Args>(args)...);
}
template <class... Args>
void log_debug(fmt::format_string<Args...> format, Args&&... args) {
  log_at(LogLevel::kDebug, format, std::forward<Args>(args)...);
}

}  // namespace foveal

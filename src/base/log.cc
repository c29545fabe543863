#include "base/log.h"

#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <ctime>
#include <mutex>
#include <string>

#include "base/check.h"
#include "base/options_node.h"

namespace foveal {
namespace {

constexpr std::array<std::string_view, 4> kNames{"error", "warn", "info", "debug"};
constexpr size_t kMaxLine = 4000;  // a hostile file must not be able to flood a log

std::atomic<LogLevel> current_level{LogLevel::kInfo};
std::mutex write_mutex;
bool line_is_transient = false;  // guarded by write_mutex

// The caller holds write_mutex. Errors are dropped: there is nowhere left to report them.
void write_all(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(STDERR_FILENO, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return;
    bytes.remove_prefix(static_cast<size_t>(written));
  }
}

std::string clock_text() {
  const auto now = std::chrono::system_clock::now();
  const std::time_t seconds = std::chrono::system_clock::to_time_t(now);
  const auto millis =
      std::chrono::duration_cast<std::chrono::milliseconds>(now.time_since_epoch()).count() % 1000;
  std::tm local{};
  localtime_r(&seconds, &local);
  return fmt::format("{:02}:{:02}:{:02}.{:03}", local.tm_hour, local.tm_min, local.tm_sec, millis);
}

}  // namespace

LogLevel parse_log_level(std::string_view text) {
  for (size_t idx = 0; idx < kNames.size(); ++idx) {
    if (text == kNames[idx]) return static_cast<LogLevel>(idx);
  }
  fail(ErrorKind::kInvalidArgument, "log_level", "got '{}'; need one of error, warn, info, debug",
       printable(text));
}

void set_log_level(LogLevel level) { current_level.store(level, std::memory_order_relaxed); }
LogLevel log_level() { return current_level.load(std::memory_order_relaxed); }

void log_line(LogLevel level, std::string_view message) {
  const std::string line =
      fmt::format("{} {:<5} {}\n", clock_text(), kNames.at(static_cast<size_t>(level)),
                  printable(message, kMaxLine));
  const std::lock_guard lock(write_mutex);
  if (line_is_transient) write_all("\r\x1b[K");
  line_is_transient = false;
  write_all(line);
}

void write_stderr(std::string_view bytes, bool transient) {
  const std::lock_guard lock(write_mutex);
  write_all(bytes);
  line_is_transient = transient;
}

}  // namespace foveal

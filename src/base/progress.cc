#include "base/progress.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>

#include "base/log.h"

namespace foveal {
namespace {

constexpr auto kMinInterval = std::chrono::milliseconds(100);
constexpr int kMinBar = 10;  // columns; with less room the numbers say more

int terminal_width() {
  winsize size{};
  if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return 80;
  return size.ws_col;
}

std::string bar_text(double share, int width) {
  const int inner = width - 2;
  const int full = std::clamp(static_cast<int>(share * inner), 0, inner);
  std::string bar(static_cast<size_t>(inner), ' ');
  std::fill_n(bar.begin(), full, '=');
  if (full < inner) bar[static_cast<size_t>(full)] = '>';
  return fmt::format("[{}]", bar);
}

}  // namespace

std::string progress_line(std::string_view label, int64_t done, int64_t total, double seconds,
                          int width) {
  const double rate = seconds > 0 ? static_cast<double>(done) / seconds : 0;
  std::string head(label);
  std::string tail;
  if (total <= 0) {
    tail = fmt::format(" {} {:.1f}/s", done, rate);
  } else {
    const double share = std::clamp(static_cast<double>(done) / static_cast<double>(total), 0., 1.);
    tail = fmt::format(" {:3.0f}% {}/{}", share * 100, done, total);
    if (rate > 0) tail += fmt::format(" {:.0f}s left", static_cast<double>(total - done) / rate);
    const int room = width - static_cast<int>(head.size() + tail.size()) - 1;
    if (room >= kMinBar) head += fmt::format(" {}", bar_text(share, std::min(room, 40)));
  }
  std::string line = head + tail;
  if (static_cast<int>(line.size()) > width) line.resize(static_cast<size_t>(std::max(width, 0)));
  return line;
}

Progress::Progress(std::string label, int64_t total)
    : label_(std::move(label)),
      total_(total),
      on_(isatty(STDERR_FILENO) == 1),
      start_(Clock::now()),
      last_(start_) {}

Progress::~Progress() {
  if (drawn_) write_stderr("\r\x1b[K", /*transient=*/false);
}

void Progress::update(int64_t done) {
  const Clock::time_point now = Clock::now();
  if (now - last_ >= kMinInterval) show(done);
}

void Progress::show(int64_t done) {
  if (!on_) return;
  const Clock::time_point now = Clock::now();
  last_ = now;
  drawn_ = true;
  const double seconds = std::chrono::duration<double>(now - start_).count();
  // One column is left free: writing in the last one makes some terminals wrap.
  const std::string line = progress_line(label_, done, total_, seconds, terminal_width() - 1);
  write_stderr(fmt::format("\r\x1b[K{}", line), /*transient=*/true);
}

}  // namespace foveal

#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

namespace foveal {

/// One line of a bar: `load [=====>    ]  52% 13.2/25.4 1.2/s 10s`, exactly at most `width`
/// columns. Pure, for tests. `total` 0 means unknown: no bar, only the count.
std::string progress_line(std::string_view label, int64_t done, int64_t total, double seconds,
                          int width);

/// A progress bar on standard error where that is a terminal, and nothing elsewhere (pipes, CI).
/// Redraws at most ten times a second. One thread.
class Progress {
 public:
  Progress(std::string label, int64_t total);
  ~Progress();  ///< wipes the line
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void update(int64_t done);
  /// Draws at once: for a stage that says nothing more until it is over.
  void show(int64_t done);

 private:
  using Clock = std::chrono::steady_clock;
  std::string label_;
  int64_t total_;
  bool on_;
  bool drawn_ = false;
  Clock::time_point start_;
  Clock::time_point last_;
};

}  // namespace foveal

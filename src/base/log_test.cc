#include "base/log.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <regex>
#include <string>
#include <thread>
#include <vector>

#include "base/progress.h"
#include "foveal/error.h"

namespace foveal {
namespace {

class LogTest : public testing::Test {
 protected:
  void TearDown() override { set_log_level(LogLevel::kInfo); }
};

TEST_F(LogTest, OneLineWithTimeAndLevel) {
  testing::internal::CaptureStderr();
  log_warn("got {} and {}", 3, "a\nb");
  const std::string out = testing::internal::GetCapturedStderr();
  EXPECT_TRUE(
      std::regex_match(out, std::regex(R"(\d\d:\d\d:\d\d\.\d\d\d warn  got 3 and a\\x0ab\n)")))
      << out;
}

TEST_F(LogTest, LevelsFilter) {
  for (const char* name : {"error", "warn", "info", "debug"}) {
    const LogLevel level = parse_log_level(name);
    set_log_level(level);
    testing::internal::CaptureStderr();
    log_error("x");
    log_warn("x");
    log_info("x");
    log_debug("x");
    const std::string out = testing::internal::GetCapturedStderr();
    EXPECT_EQ(std::count(out.begin(), out.end(), '\n'), static_cast<int>(level) + 1) << name;
  }
  EXPECT_THROW(parse_log_level("loud"), Error);
}

TEST_F(LogTest, LinesOfThreadsDoNotMix) {
  testing::internal::CaptureStderr();
  std::vector<std::thread> threads;
  for (int worker = 0; worker < 4; ++worker) {
    threads.emplace_back([worker] {
      for (int line = 0; line < 200; ++line) log_info("{}", std::string(60, 'a' + worker));
    });
  }
  for (std::thread& thread : threads) thread.join();
  const std::string out = testing::internal::GetCapturedStderr();
  const std::regex line(R"(\S+ info  (a{60}|b{60}|c{60}|d{60}))");
  size_t begin = 0;
  int lines = 0;
  for (size_t end = out.find('\n'); end != std::string::npos; end = out.find('\n', begin)) {
    EXPECT_TRUE(std::regex_match(out.substr(begin, end - begin), line));
    begin = end + 1;
    ++lines;
  }
  EXPECT_EQ(lines, 800);
}

TEST_F(LogTest, TransientTextIsWipedByTheNextLine) {
  testing::internal::CaptureStderr();
  write_stderr("half", /*transient=*/true);
  log_info("x");
  log_info("y");
  const std::string out = testing::internal::GetCapturedStderr();
  EXPECT_EQ(out.find("half\r\x1b[K"), 0U);
  EXPECT_EQ(out.find("\x1b[K", 8), std::string::npos);
}

TEST(Progress, LineFitsAnyWidth) {
  for (int width = 0; width < 130; ++width) {
    for (const int64_t done : {0, 1, 50, 99, 100, 150}) {
      EXPECT_LE(static_cast<int>(progress_line("load", done, 100, 2.0, width).size()), width);
    }
  }
}

TEST(Progress, ShowsShareCountAndTime) {
  EXPECT_EQ(progress_line("load", 25, 100, 5.0, 80),
            "load [=========>                            ]  25% 25/100 15s left");
  EXPECT_EQ(progress_line("load", 100, 100, 5.0, 30), "load 100% 100/100 0s left");
  EXPECT_EQ(progress_line("read", 7, 0, 2.0, 80), "read 7 3.5/s");
}

TEST(Progress, SilentWithoutATerminal) {
  testing::internal::CaptureStderr();  // a file, not a terminal
  {
    Progress progress("load", 2);
    std::this_thread::sleep_for(std::chrono::milliseconds(110));
    progress.update(1);
  }
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
}

}  // namespace
}  // namespace foveal

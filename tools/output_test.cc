#include "output.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <filesystem>

#include "foveal/error.h"

namespace foveal::tools {
namespace {

TEST(CheckWritable, TakesWhatCanBeWritten) {
  const std::string path = testing::TempDir() + "/output_test.bin";
  EXPECT_NO_THROW(check_writable("logits", ""));
  EXPECT_NO_THROW(check_writable("logits", path));
  EXPECT_FALSE(std::filesystem::exists(path));
  EXPECT_NO_THROW(check_writable("logits", "output_test.bin"));
  EXPECT_NO_THROW(check_writable("logits", "/dev/null"));
}

TEST(CheckWritable, RefusesWhatCannot) {
  for (const std::string& path : {testing::TempDir(), testing::TempDir() + "/absent/output.bin",
                                  testing::TempDir() + "/" + std::string(5000, 'x')}) {
    EXPECT_THROW(check_writable("logits", path), Error) << path;
  }
}

TEST(WriteOut, ReportsAFullOutput) {
  std::FILE* const full = std::fopen("/dev/full", "wb");
  ASSERT_NE(full, nullptr);
  std::FILE* const before = stdout;
  std::fflush(stdout);
  stdout = full;
  EXPECT_THROW(write_out("text"), Error);
  stdout = before;
  std::fclose(full);
}

}  // namespace
}  // namespace foveal::tools

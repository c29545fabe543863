#include "output.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <filesystem>
#include <fstream>

#include "base/test_folder.h"
#include "foveal/error.h"

namespace foveal::tools {
namespace {

/// The working directory for one test.
class Inside {
 public:
  explicit Inside(const std::string& path) { std::filesystem::current_path(path); }
  ~Inside() { std::filesystem::current_path(before_); }

 private:
  std::filesystem::path before_ = std::filesystem::current_path();
};

TEST(CheckWritable, TakesWhatCanBeWritten) {
  const TestFolder folder;
  const Inside inside(folder.path());
  const std::string path = folder.path("output_test.bin");
  EXPECT_NO_THROW(check_writable("logits", ""));
  EXPECT_NO_THROW(check_writable("logits", path));
  EXPECT_FALSE(std::filesystem::exists(path));
  EXPECT_NO_THROW(check_writable("logits", "output_test.bin"));
  EXPECT_NO_THROW(check_writable("logits", "/dev/null"));
}

TEST(CheckWritable, RefusesWhatCannot) {
  const TestFolder folder;
  for (const std::string& path :
       {folder.path(), folder.path("absent/output.bin"), folder.path(std::string(5000, 'x'))}) {
    EXPECT_THROW(check_writable("logits", path), Error) << path;
  }
}

TEST(CheckNotInput, KnowsAFileByAnyName) {
  namespace fs = std::filesystem;
  const TestFolder own;
  const fs::path folder = own.path();
  const fs::path model = folder / "model.gguf";
  const fs::path link = folder / "link";
  std::ofstream(model) << "weights";
  fs::create_symlink(model, link);
  const std::string detour = (folder / "." / "model.gguf").string();
  for (const std::string& path : {model.string(), link.string(), detour}) {
    EXPECT_THROW(check_not_input("logits", path, model.string()), Error) << path;
    EXPECT_THROW(check_not_input("logits", path, folder.string()), Error) << path;
    EXPECT_TRUE(same_output(path, model.string())) << path;
  }
  const std::string first = (folder / "m-00001-of-00002.gguf").string();
  const std::string second = (folder / "m-00002-of-00002.gguf").string();
  std::ofstream(first) << "weights";
  std::ofstream(second) << "weights";
  EXPECT_THROW(check_not_input("logits", second, first), Error);
  const std::string of_another = (folder / "m-00001-of-00003.gguf").string();
  std::ofstream(of_another) << "weights";
  EXPECT_NO_THROW(check_not_input("logits", of_another, first));
  const std::string beside = (folder / "m-logits.bin").string();
  std::ofstream(beside) << "of an earlier run";
  EXPECT_NO_THROW(check_not_input("logits", beside, first));
  EXPECT_NO_THROW(check_not_input("logits", model.string(), first));
  EXPECT_NO_THROW(check_not_input("logits", (folder / "new").string(), folder.string()));
  EXPECT_NO_THROW(check_not_input("logits", "/dev/null", model.string()));
  EXPECT_TRUE(same_output((folder / "new").string(), (folder / "." / "new").string()));
  EXPECT_FALSE(same_output((folder / "new").string(), (folder / "newer").string()));
  EXPECT_FALSE(same_output("/dev/null", "/dev/null"));
}

TEST(SameOutput, KnowsNewFilesByRelativePathsAndThroughLinks) {
  namespace fs = std::filesystem;
  EXPECT_TRUE(same_output("output_test_new", "./output_test_new"));
  EXPECT_TRUE(same_output(fs::absolute("output_test_new").string(), "output_test_new"));
  EXPECT_FALSE(same_output("output_test_new", "./output_test_newer"));

  const TestFolder own;
  const fs::path folder = own.path();
  const std::string link = (folder / "link").string();
  fs::create_symlink("new", link);
  EXPECT_TRUE(same_output(link, (folder / "new").string()));
  EXPECT_TRUE(same_output((folder / "new").string(), link));
  EXPECT_FALSE(same_output(link, (folder / "newer").string()));
  EXPECT_NO_THROW(check_writable("logits", link));

  const std::string lost = (folder / "lost").string();
  fs::create_symlink("nowhere/new", lost);
  EXPECT_THROW(check_writable("logits", lost), Error);
  const std::string circle = (folder / "circle").string();
  fs::create_symlink("circle", circle);
  EXPECT_THROW(check_writable("logits", circle), Error);
}

TEST(CheckOutputs, WantsAFileForEach) {
  const TestFolder own;
  const std::string folder = own.path();
  const std::string input = own.write("output_test_input.txt", "text");
  const std::string inputs[] = {"", input};
  const auto check = [&](const std::string& csv) {
    const OutputFile outputs[] = {
        {"json", folder + "/output_test.json"}, {"csv", csv}, {"log", ""}};
    check_outputs(outputs, inputs);
  };
  EXPECT_NO_THROW(check(folder + "/output_test.csv"));
  EXPECT_NO_THROW(check(""));
  EXPECT_THROW(check(folder + "/./output_test.json"), Error);
  EXPECT_THROW(check(input), Error);
  EXPECT_THROW(check(folder), Error);
}

TEST(WriteResults, GoesOnAfterOneThatFails) {
  const std::string good = testing::TempDir() + "/output_test_results.csv";
  const OutputText files[] = {{"json", "/dev/full", "a"}, {"csv", good, "b\n"}, {"log", "", "c"}};
  testing::internal::CaptureStdout();
  try {
    write_results(files, "shown");
    ADD_FAILURE() << "must throw";
  } catch (const Error& error) {
    EXPECT_TRUE(std::string_view(error.what()).starts_with("[json] got ")) << error.what();
  }
  EXPECT_EQ(testing::internal::GetCapturedStdout(), "shown");
  EXPECT_EQ(std::filesystem::file_size(good), 2U);
  std::filesystem::remove(good);
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

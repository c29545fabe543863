#include "base/new_file.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "foveal/error.h"

namespace foveal {
namespace {

namespace fs = std::filesystem;

class NewFileTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::path(testing::TempDir()) / "foveal_new_file";
    fs::remove_all(folder_);
    fs::create_directories(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }

  std::string path(const char* name) const { return (folder_ / name).string(); }
  static void put(const std::string& path, std::string_view text) {
    NewFile file(path, "output");
    file.write(text);
    file.commit();
  }
  static std::string read(const std::string& path) {
    std::ostringstream out;
    out << std::ifstream(path).rdbuf();
    return out.str();
  }
  std::ptrdiff_t num_files() const {
    return std::distance(fs::directory_iterator(folder_), fs::directory_iterator());
  }

  fs::path folder_;
};

TEST_F(NewFileTest, HasItsNameWhenItIsWhole) {
  {
    NewFile file(path("a"));
    file.write("half");
    EXPECT_FALSE(fs::exists(path("a")));
  }
  EXPECT_EQ(num_files(), 0);
  put(path("a"), "one");
  put(path("a"), "two");
  EXPECT_EQ(read(path("a")), "two");
  put(path("a"), "");
  EXPECT_EQ(read(path("a")), "");
  EXPECT_EQ(num_files(), 1);
}

TEST_F(NewFileTest, KeepsTheModeAndTheLinksOfWhatWasThere) {
  put(path("a"), "one");
  ASSERT_EQ(::chmod(path("a").c_str(), 0640), 0);
  fs::create_symlink("a", path("link"));
  fs::create_symlink("new", path("ahead"));
  put(path("link"), "two");
  put(path("ahead"), "three");
  EXPECT_TRUE(fs::is_symlink(path("link")));
  EXPECT_EQ(read(path("a")), "two");
  EXPECT_EQ(read(path("new")), "three");
  struct stat now{};
  ASSERT_EQ(::stat(path("a").c_str(), &now), 0);
  EXPECT_EQ(now.st_mode & 0777U, 0640U);
}

// A limit of a file's size stands for a full disk.
TEST_F(NewFileTest, LeavesNothingOnAFullDisk) {
  put(path("old"), "before");
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  rlimit small = before;
  small.rlim_cur = 1000;
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  // Within a buffer the end is only noticed when it is written out.
  for (const size_t size : {size_t{1001}, size_t{1} << 20}) {
    for (const char* name : {"old", "new"}) {
      EXPECT_THROW(put(path(name), std::string(size, 'x')), Error) << size;
    }
  }
  EXPECT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  std::signal(SIGXFSZ, handler);
  EXPECT_EQ(read(path("old")), "before");
  EXPECT_EQ(num_files(), 1);
}

TEST_F(NewFileTest, WritesToDevicesAtOnce) {
  put("/dev/null", "text");
  EXPECT_TRUE(fs::is_character_file("/dev/null"));
  EXPECT_THROW(put("/dev/full", "text"), Error);
  EXPECT_THROW(put(path("absent/a"), "text"), Error);
}

}  // namespace
}  // namespace foveal

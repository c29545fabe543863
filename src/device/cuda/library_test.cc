#include "device/cuda/library.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "base/test_folder.h"
#include "device/backend.h"
#include "device/cuda/cublaslt.h"

namespace foveal::cuda {
namespace {

namespace fs = std::filesystem;

class LibraryTest : public testing::Test {
 protected:
  fs::path folder(const std::string& name) const {
    fs::create_directories(root_ / name);
    return root_ / name;
  }

  TestFolder own_;
  fs::path root_ = fs::canonical(own_.path());
};

TEST_F(LibraryTest, ProgramOfASourceTree) {
  const fs::path bin = folder("tree/build/release/bin");
  const fs::path pypi = folder("tree/.venv/lib/python3.11/site-packages/nvidia/cu13/lib");
  EXPECT_EQ(library_folders(bin / "foveal", bin / "foveal"), (std::vector<fs::path>{bin, pypi}));
}

TEST_F(LibraryTest, ExtensionOfAPythonPackage) {
  const fs::path package = folder("env/lib/python3.12/site-packages/foveal");
  const fs::path pypi = folder("env/lib/python3.12/site-packages/nvidia/cu13/lib");
  const fs::path bin = folder("usr/bin");
  EXPECT_EQ(library_folders(package / "_foveal.abi3.so", bin / "python3.12"),
            (std::vector<fs::path>{package, pypi, bin}));
}

TEST_F(LibraryTest, OnlyFoldersThatExist) {
  EXPECT_TRUE(library_folders(root_ / "no/lib.so", root_ / "no/bin/program").empty());
  EXPECT_TRUE(library_folders({}, {}).empty());
}

TEST_F(LibraryTest, AMissingLibraryNamesThePlaces) {
  try {
    open_library("libfoveal_no_such_library.so.13");
    FAIL();
  } catch (const Error& error) {
    const std::string text = error.what();
    EXPECT_EQ(error.kind(), ErrorKind::kUnsupported);
    EXPECT_NE(text.find("not in " + fs::canonical("/proc/self/exe").parent_path().string()),
              std::string::npos)
        << text;
    EXPECT_NE(text.find("cannot open shared object file"), std::string::npos) << text;
  }
}

// The library itself needs no GPU, so that its table of functions is tested on every machine.
TEST_F(LibraryTest, CublasLtHasWhatWeCall) {
  try {
    EXPECT_GE(cublas_lt().get_version(), 130000U);
    EXPECT_STREQ(cublas_lt().get_status_name(CUBLAS_STATUS_NOT_SUPPORTED),
                 "CUBLAS_STATUS_NOT_SUPPORTED");
  } catch (const Error& error) {
    GTEST_SKIP() << error.what();
  }
}

TEST(GpuListTest, AnswersWithoutADriver) {
  const GpuList list = list_gpus();
  EXPECT_EQ(list.problem.empty(), !list.gpus.empty());
}

}  // namespace
}  // namespace foveal::cuda

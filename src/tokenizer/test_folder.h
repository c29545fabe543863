#pragma once

#include <fstream>
#include <iterator>
#include <string>

#include "base/test_folder.h"

namespace foveal::tokenizer {

inline std::string data_path(const std::string& name) {
  return std::string(FOVEAL_SOURCE_DIR) + "/src/tokenizer/testdata/" + name;
}

using Folder = TestFolder;

inline std::string slurp(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace foveal::tokenizer

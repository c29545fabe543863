#include "attention/skip_softmax/glob.h"

#include <gtest/gtest.h>

#include <boost/json.hpp>
#include <fstream>
#include <iterator>
#include <string>

namespace foveal::attention::skip_softmax {
namespace {

TEST(Glob, AgreesWithPythonsFnmatch) {
  std::ifstream file(FOVEAL_SOURCE_DIR "/tests/golden/fnmatch.json");
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  int matches = 0;
  int tested = 0;
  const boost::json::value cases = boost::json::parse(text);
  for (const auto& value : cases.as_array()) {
    const std::string pattern(value.at(0).as_string());
    const std::string name(value.at(1).as_string());
    const bool expected = value.at(2).as_bool();
    EXPECT_EQ(glob_match(pattern, name), expected) << "'" << pattern << "' on '" << name << "'";
    matches += expected ? 1 : 0;
    ++tested;
  }
  EXPECT_GT(tested, 500);
  EXPECT_GT(matches, 100);
}

TEST(Glob, HostilePatternsCostLittle) {
  std::string pattern;
  for (int i = 0; i < 20000; ++i) pattern += "*a";
  EXPECT_FALSE(glob_match(pattern, std::string(2000, 'a') + "b"));
  EXPECT_FALSE(glob_match(std::string(60000, '['), std::string(60, 'x')));
  EXPECT_TRUE(glob_match(std::string(60000, '*'), "x"));
}

}  // namespace
}  // namespace foveal::attention::skip_softmax

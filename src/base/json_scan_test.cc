#include "base/json_scan.h"

#include <gtest/gtest.h>

namespace foveal {
namespace {

TEST(JsonScan, GoodTextHasNothingToSay) {
  for (const char* text :
       {"{}", "[1, 2.5e3, true, null]", R"({"a": {"a": 1}, "b": [{"a": 2}]})", "7"}) {
    const JsonScan scan = scan_json(text, 8);
    EXPECT_EQ(scan.problem, "") << text;
    EXPECT_FALSE(scan.duplicate) << text;
    EXPECT_FALSE(scan.has_rest) << text;
  }
}

TEST(JsonScan, FindsTheFirstKeyThatIsThereTwice) {
  EXPECT_EQ(scan_json(R"({"a": 1, "b": {"c": 1, "c": 2}, "a": 3})", 8).duplicate, "c");
  EXPECT_EQ(scan_json(R"({"a": 1, "\u0061": 2})", 8).duplicate, "a");
}

TEST(JsonScan, SaysWhatIsWrong) {
  EXPECT_NE(scan_json("{", 8).problem, "");
  EXPECT_NE(scan_json("", 8).problem, "");
  EXPECT_NE(scan_json("[[[[1]]]]", 3).problem, "");
  EXPECT_TRUE(scan_json("{} x", 8).has_rest);
}

}  // namespace
}  // namespace foveal

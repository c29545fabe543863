#include "input.h"

#include <gtest/gtest.h>

#include <limits>

#include "base/test_folder.h"
#include "foveal/error.h"
#include "json_writer.h"

namespace foveal::tools {
namespace {

TEST(TokenIds, ReadsListsAndJson) {
  EXPECT_EQ(parse_token_ids("1,2,3"), (std::vector<int32_t>{1, 2, 3}));
  EXPECT_EQ(parse_token_ids(" [1, 2,\n3] "), (std::vector<int32_t>{1, 2, 3}));
  EXPECT_EQ(parse_token_ids("7"), std::vector<int32_t>{7});
}

TEST(TokenIds, RefusesEverythingElse) {
  for (const char* text :
       {"", "[]", "1,", "1,,2", "-1", "1.5", "a", "1 2", "[1", "99999999999", "@"}) {
    EXPECT_THROW(parse_token_ids(text), Error) << text;
  }
}

TEST(List, KeepsEmptyItemsForTheCallerToRefuse) {
  EXPECT_EQ(split_list(" a ,b c,\n,"), (std::vector<std::string_view>{"a", "b c", "", ""}));
  EXPECT_EQ(split_list(""), std::vector<std::string_view>{""});
}

TEST(Input, ReadsBytesAndNamesWhatIsMissing) {
  const TestFolder folder;
  const std::string bytes("a\0b\xff\n", 5);
  const std::string path = folder.write("input.bin", bytes);
  EXPECT_EQ(read_input(path), bytes);
  EXPECT_THROW(read_input(path + ".absent"), Error);
  EXPECT_THROW(read_input(folder.path()), Error);
}

TEST(JsonWriter, WritesObjectsInOrder) {
  JsonWriter json;
  json.begin_object().field("b", int64_t{1}).key("a").begin_array().value(0.5).value(true);
  json.begin_object().end_object().end_array().field("text", "q\"\\\n\x01é").end_object();
  EXPECT_EQ(json.text(), "{\"b\": 1, \"a\": [0.5, true, {}], \"text\": \"q\\\"\\\\\\n\\u0001é\"}");
}

TEST(JsonWriter, HasNoWordForInfinity) {
  EXPECT_EQ(JsonWriter().value(std::numeric_limits<double>::infinity()).text(), "null");
  EXPECT_EQ(JsonWriter().value(1e300).text(), "1e+300");
  EXPECT_EQ(json_string("é"), "\"é\"");
  EXPECT_EQ(json_string("a\xff b\xc3"), "\"a\xef\xbf\xbd b\xef\xbf\xbd\"");
}

}  // namespace
}  // namespace foveal::tools

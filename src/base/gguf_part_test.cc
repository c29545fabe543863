#include "base/gguf_part.h"

#include <gtest/gtest.h>

namespace foveal {
namespace {

TEST(GgufPart, SaysWhichOfHowManyItIs) {
  const auto part = gguf_part("folder/m-Q4_K-00002-of-00012.gguf");
  ASSERT_TRUE(part.has_value());
  EXPECT_EQ(part->name, "folder/m-Q4_K");
  EXPECT_EQ(part->number, 2);
  EXPECT_EQ(part->count, 12);
  EXPECT_EQ(part->path(11), "folder/m-Q4_K-00011-of-00012.gguf");
}

TEST(GgufPart, OtherNamesAreNoParts) {
  for (const char* name :
       {"", "m.gguf", "-00001-of-00002.gguf", "m-00000-of-00002.gguf", "m-00003-of-00002.gguf",
        "m-0001-of-00002.gguf", "m-00001-of-0002.gguf", "m_00001-of-00002.gguf",
        "m-00001-at-00002.gguf", "m-0000a-of-00002.gguf", "m--0001-of-00002.gguf",
        "m-00001-of-00002.GGUF", "m-00001-of-00002"}) {
    EXPECT_FALSE(gguf_part(name).has_value()) << name;
  }
}

TEST(GgufPart, AModelsPartsHaveOneNameAndOneCount) {
  const auto one = gguf_part("m-00001-of-00003.gguf");
  EXPECT_TRUE(one->same_model(*gguf_part("m-00003-of-00003.gguf")));
  EXPECT_FALSE(one->same_model(*gguf_part("m-00001-of-00002.gguf")));
  EXPECT_FALSE(one->same_model(*gguf_part("n-00001-of-00003.gguf")));
}

}  // namespace
}  // namespace foveal

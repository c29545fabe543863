#include "server/auth.h"

#include <gtest/gtest.h>

#include <cstdio>

#include "base/check.h"
#include "base/test_folder.h"

namespace foveal::server {
namespace {

TEST(Auth, FindsWhichKey) {
  const Auth auth({"one", "two"});
  EXPECT_EQ(auth.check("Bearer one"), 0);
  EXPECT_EQ(auth.check("bearer  two"), 1);
  for (const char* field : {"", "Bearer", "Bearer ", "Bearer on", "Bearer onee", "Bearer ONE",
                            "one", "Basic one", "Bearer one two"}) {
    EXPECT_EQ(auth.check(field), std::nullopt) << field;
  }
  EXPECT_EQ(auth.check(std::nullopt), std::nullopt);
}

TEST(Auth, WithoutKeysNeedsNone) { EXPECT_FALSE(Auth({}).required()); }

TEST(Auth, RefusesKeysNobodyCouldSend) {
  EXPECT_THROW(Auth({""}), Error);
  EXPECT_THROW(Auth({"a b"}), Error);
}

TEST(Auth, ReadsAKeyFile) {
  const TestFolder folder;
  const std::string path = folder.write("keys", "# mine\none\r\n\ntwo\n");
  EXPECT_EQ(read_key_file(path), (std::vector<std::string>{"one", "two"}));
  folder.write("keys", "# nothing\n");
  EXPECT_THROW(read_key_file(path), Error);
  std::remove(path.c_str());
  EXPECT_THROW(read_key_file(path), Error);
}

}  // namespace
}  // namespace foveal::server

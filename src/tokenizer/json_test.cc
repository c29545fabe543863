#include <gtest/gtest.h>

#include "foveal/error.h"
#include "tokenizer/test_folder.h"
#include "tokenizer/tokenizer.h"

namespace foveal::tokenizer {
namespace {

using Ids = std::vector<int32_t>;

// Expected ids and texts come from the Python package `tokenizers` 0.23.
TEST(TokenizerJson, ByteLevelAsTheLibrary) {
  const auto tokenizer = Tokenizer::from_file(data_path("byte_level.json"));
  const std::string text = "hello w<s>\u00f6rld 12345 <tool> word  hello\nwords </s>";
  const Ids ids{259, 260, 261, 195, 182, 114, 108, 100, 32,  49,  50,  51, 52, 53,
                263, 264, 32,  32,  259, 10,  119, 111, 114, 100, 115, 32, 262};
  EXPECT_EQ(tokenizer->encode(text, true), ids);
  EXPECT_EQ(tokenizer->decode(ids, true), "hello w\u00f6rld 12345<tool>word  hello\nwords ");
  EXPECT_EQ(tokenizer->decode(ids, false),
            "hello w<s>\u00f6rld 12345<tool>word  hello\nwords </s>");
  EXPECT_EQ(tokenizer->bos(), 261);  // the post-processor puts it in front
  EXPECT_TRUE(tokenizer->adds_bos());
  EXPECT_EQ(tokenizer->encode("<s>", false), (Ids{'<', 's', '>'}));
}

TEST(TokenizerJson, SentencePieceAsTheLibrary) {
  const auto tokenizer = Tokenizer::from_file(data_path("sentence.json"));
  const Ids ids{262, 262, 261, 1, 259, 125, 259, 198, 172, 2, 259, 259, 261, 259, 262};
  const std::string text = "a ab<s>z \u00e9</s> b  a";
  EXPECT_EQ(tokenizer->encode(text, true).size(), 15u);
  EXPECT_EQ(tokenizer->encode(text, true), ids);
  EXPECT_EQ(tokenizer->decode(ids, true), "a ab z \u00e9  b  a");
  EXPECT_EQ(tokenizer->decode(ids, false), "a ab<s> z \u00e9</s>  b  a");
}

TEST(TokenizerJson, FolderBringsConfigAndTemplate) {
  const Folder folder;
  folder.write("tokenizer.json", slurp(data_path("byte_level.json")));
  folder.write("tokenizer_config.json",
               R"({"bos_token": {"content": "<s>"}, "eos_token": "</s>", "add_bos_token": false,
                   "chat_template": [{"name": "tool_use", "template": "no"},
                                     {"name": "default", "template": "yes"}]})");
  auto tokenizer = Tokenizer::from_file(folder.path());
  EXPECT_EQ(tokenizer->bos(), 261);
  EXPECT_FALSE(tokenizer->adds_bos());
  EXPECT_EQ(tokenizer->end_tokens(), Ids{262});
  EXPECT_EQ(tokenizer->chat_template(), "yes");
  folder.write("chat_template.jinja", "file");
  tokenizer = Tokenizer::from_file(folder.path());
  EXPECT_EQ(tokenizer->chat_template(), "file");
}

ErrorKind kind_of(const std::string& json) {
  const Folder folder;
  folder.write("tokenizer.json", json);
  try {
    Tokenizer::from_file(folder.path());
  } catch (const Error& error) {
    return error.kind();
  }
  ADD_FAILURE() << "no error for " << json.substr(0, 60);
  return ErrorKind::kInternal;
}

TEST(TokenizerJson, BadFilesAreErrors) {
  const std::string good = slurp(data_path("byte_level.json"));
  for (size_t cut = 0; cut + 2 < good.size(); cut += 97) {
    EXPECT_EQ(kind_of(good.substr(0, cut)), ErrorKind::kCorruptFile);
  }
  std::string deep = "{\"model\":";
  deep.append(100000, '[');
  EXPECT_EQ(kind_of(deep), ErrorKind::kCorruptFile);
  EXPECT_EQ(kind_of("\xff\xfe"), ErrorKind::kCorruptFile);
  EXPECT_EQ(kind_of("[]"), ErrorKind::kCorruptFile);
  std::string far = good;
  far.replace(far.find("\"hello\": 259"), 12, "\"hello\": 4000000000");
  EXPECT_EQ(kind_of(far), ErrorKind::kCorruptFile);
  try {
    Tokenizer::from_file("/no/such/folder");
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kNotFound);
  }
}

TEST(TokenizerJson, CatastrophicExpressionEndsWithAnError) {
  const Folder folder;
  std::string json = slurp(data_path("byte_level.json"));
  const std::string honest = R"(\\p{N}{1,3}| ?\\p{L}+|[^\\p{L}\\p{N}]+)";
  json.replace(json.find(honest), honest.size(), "(a|aa)+b");
  folder.write("tokenizer.json", json);
  const auto tokenizer = Tokenizer::from_file(folder.path());
  EXPECT_THROW(tokenizer->encode(std::string(3000, 'a') + " b", false), Error);
}

}  // namespace
}  // namespace foveal::tokenizer

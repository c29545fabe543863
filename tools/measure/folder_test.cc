#include <gtest/gtest.h>

#include <fstream>
#include <string>

#include "base/test_folder.h"
#include "foveal/error.h"
#include "input.h"
#include "measure/documents.h"
#include "measure/records.h"
#include "measure/result_folder.h"

namespace foveal::measure {
namespace {

const Settings kSettings{{"task", "niah"}, {"model", "m.gguf"}};

Record record(const std::string& id) {
  Record out{.id = id, .tags = {{"length", "512"}}, .prompt_tokens = 17, .references = {"a \"b\""}};
  ArmResult& arm = out.arms["dense"];
  arm.values["score"] = {{0.1, 1}, {1.0 / 3, 64}};
  arm.answers = {"line\nline"};
  arm.kv_bytes = 5;
  arm.kv_peak_bytes = 7;
  arm.sparsity.method = "skip_softmax";
  arm.sparsity.layers = {{.prefill = {.pairs = uint64_t{1} << 52, .pairs_used = 3},
                          .decode = {.pairs = 9, .pairs_used = 8}}};
  return out;
}

TEST(Record, ReadsWhatItWrote) {
  const Record want = record("x");
  const Record got = record_from_json(to_json(want), "here");
  EXPECT_EQ(to_json(got), to_json(want));
  EXPECT_EQ(got.arms.at("dense").values.at("score"), want.arms.at("dense").values.at("score"));
  const Record failed{.id = "y", .error = "[a] got b; need c"};
  EXPECT_EQ(record_from_json(to_json(failed), "here").error, failed.error);
  for (const char* bad : {"", "{", "[]", "{\"id\": 3}", "{\"id\": \"a\", \"tags\": []}"}) {
    EXPECT_THROW(record_from_json(bad, "here"), Error) << bad;
  }
}

TEST(ResultFolder, IsTakenUpWhereItEnded) {
  const TestFolder parent;
  const std::string path = parent.path("results");
  {
    ResultFolder folder(path, kSettings, /*overwrite=*/false);
    folder.add(record("a"));
    folder.add(record("b"));
  }
  // A crash in the middle of a line.
  std::ofstream(path + "/samples.jsonl", std::ios::app) << to_json(record("c")).substr(0, 40);
  {
    ResultFolder folder(path, kSettings, /*overwrite=*/false);
    EXPECT_EQ(folder.records().size(), 2U);
    folder.add(record("c"));
  }
  ResultFolder folder(path, kSettings, /*overwrite=*/false);
  EXPECT_EQ(folder.records().size(), 3U);
  EXPECT_EQ(to_json(folder.records().at("c")), to_json(record("c")));
}

TEST(ResultFolder, RefusesOtherSettingsAndASecondProcess) {
  const TestFolder parent;
  const std::string path = parent.path("results");
  {
    ResultFolder folder(path, kSettings, /*overwrite=*/false);
    folder.add(record("a"));
    EXPECT_THROW(ResultFolder(path, kSettings, /*overwrite=*/false), Error);
  }
  Settings other = kSettings;
  other[1].second = "n.gguf";
  EXPECT_THROW(ResultFolder(path, other, /*overwrite=*/false), Error);
  Settings more = kSettings;
  more.emplace_back("seed", "3");
  EXPECT_THROW(ResultFolder(path, more, /*overwrite=*/false), Error);
  {
    ResultFolder folder(path, more, /*overwrite=*/true);
    EXPECT_TRUE(folder.records().empty());
  }
  EXPECT_THROW(ResultFolder(path, kSettings, /*overwrite=*/false), Error);  // without a seed
}

TEST(ResultFolder, RefusesABrokenLineInTheMiddle) {
  const TestFolder parent;
  const std::string path = parent.path("results");
  {
    const ResultFolder folder(path, kSettings, /*overwrite=*/false);
  }
  std::ofstream(path + "/samples.jsonl") << "{\"id\": \n" << to_json(record("a")) << "\n";
  EXPECT_THROW(ResultFolder(path, kSettings, /*overwrite=*/false), Error);
}

TEST(Documents, ATextIsOneAndALineIsOne) {
  const TestFolder folder;
  const std::string text = folder.write("document.txt", "{\"text\": 3}\n");
  ASSERT_EQ(read_documents(text).size(), 1U);
  EXPECT_EQ(read_documents(text)[0].text, "{\"text\": 3}\n");

  const std::string lines =
      folder.write("document.jsonl",
                   "{\"text\": \"a\"}\n\n{\"prompt\": \"b\"}\r\n{\"input_ids\": [1, 2], "
                   "\"text\": \"c\"}\n{\"text\": 3}\n{}\n{\"input_ids\": [1.5]}\nno\n"
                   "{\"text\": \"\xff\"}\n[1]\n{\"input_ids\": [-1]}");
  const std::vector<Document> got = read_documents(lines);
  ASSERT_EQ(got.size(), 10U);
  EXPECT_EQ(got[0].text, "a");
  EXPECT_EQ(got[1].text, "b");
  EXPECT_EQ(got[1].id, "document.jsonl:3");
  EXPECT_EQ(got[2].ids, (std::vector<int32_t>{1, 2}));
  for (size_t idx = 3; idx < got.size(); ++idx) EXPECT_TRUE(got[idx].error.has_value()) << idx;

  folder.write("document.jsonl", "\n \n");
  EXPECT_THROW(read_documents(lines), Error);
  EXPECT_EQ(content_hash(text), content_hash(text));
  EXPECT_NE(content_hash(text), content_hash(lines));
}

}  // namespace
}  // namespace foveal::measure

#include "model/checkpoint.h"

#include <cmath>

#include "base/half.h"
#include "model/safetensors_writer.h"
#include "model/test_files.h"

namespace foveal::model {
namespace {

constexpr std::string_view kConfig =
    R"({"model_type":"llama","hidden_size":4,"intermediate_size":6,"num_hidden_layers":1,)"
    R"("num_attention_heads":2,"num_key_value_heads":1,"vocab_size":3,"eos_token_id":1})";

std::string header_and_data(std::string_view header, std::string_view data) {
  return FileBuilder().text(header).raw(data).bytes();
}

TEST(Checkpoint, OpensGguf) {
  const TempFolder folder;
  const std::string path = folder.write("tiny.gguf", tiny_llama_gguf().build());
  for (const std::string& open : {path, folder.path()}) {  // the folder's only .gguf
    const auto checkpoint = Checkpoint::open(open);
    EXPECT_EQ(checkpoint->format(), "GGUF v3");
    EXPECT_EQ(checkpoint->folder(), folder.path());
    EXPECT_EQ(checkpoint->config().name, "tiny");
    EXPECT_EQ(checkpoint->names(),
              (std::vector<std::string>{
                  "model.embed_tokens.weight", "model.layers.0.input_layernorm.weight",
                  "model.layers.0.self_attn.k_proj.weight", "model.norm.weight"}));
    EXPECT_EQ(checkpoint->total_bytes(), 4 * (24 + 8 + 8 + 32));
    ASSERT_NE(checkpoint->vocab(), nullptr);
    EXPECT_EQ(checkpoint->vocab()->tokens[2], "ab");
    EXPECT_EQ(checkpoint->vocab()->merges[0], "a b");
    checkpoint->prefetch();
    EXPECT_EQ(checkpoint->vector("model.norm.weight", 8)[6], 7.0F);
    const WeightView key = checkpoint->matrix("model.layers.0.self_attn.k_proj.weight", 4, 8);
    EXPECT_EQ(key.row_bytes, 32);
  }
}

/// tiny_llama_gguf in three files, as gguf-split cuts them: the first has all metadata.
struct Parts {
  std::vector<GgufBuilder> files;

  Parts() {
    for (uint32_t index = 0; index < 3; ++index) {
      GgufBuilder file = index == 0 ? tiny_llama_metadata() : GgufBuilder();
      file.set("split.no", index);
      file.set("split.count", uint32_t{3});
      file.set("split.tensors.count", uint32_t{4});
      files.push_back(file);
    }
    files[0].f32("token_embd.weight", {8, 3}, std::vector<float>(24, 0.5F));
    files[1].f32("output_norm.weight", {8}, {1, 2, 3, 4, 5, 6, 7, 8});
    files[1].f32("blk.0.attn_norm.weight", {8}, std::vector<float>(8, 1.0F));
    files[2].f32("blk.0.attn_k.weight", {8, 4}, std::vector<float>(32, 0.25F));
  }
  static std::string name(size_t index, size_t count = 3) {
    return "tiny-0000" + std::to_string(index + 1) + "-of-0000" + std::to_string(count) + ".gguf";
  }
  void write(const TempFolder& folder) const {
    for (size_t index = 0; index < files.size(); ++index) {
      folder.write(name(index), files[index].build());
    }
  }
};

TEST(Checkpoint, OpensGgufInParts) {
  const TempFolder folder;
  Parts().write(folder);
  for (const std::string& open : {folder.path(Parts::name(0)), folder.path()}) {
    const auto parts = Checkpoint::open(open);
    EXPECT_EQ(parts->format(), "GGUF v3 (3 parts)");
    EXPECT_EQ(parts->total_bytes(), 4 * (24 + 8 + 8 + 32));
    EXPECT_EQ(parts->vector("model.norm.weight", 8)[6], 7.0F);
    EXPECT_EQ(parts->matrix("model.layers.0.self_attn.k_proj.weight", 4, 8).row_bytes, 32);
    EXPECT_EQ(parts->vocab()->tokens[2], "ab");
    parts->prefetch();
  }
}

TEST(Checkpoint, RefusesPartsThatAreNotOfOneModel) {
  const auto refuse = [](ErrorKind kind, std::string_view part, size_t open,
                         const std::function<void(Parts&, const TempFolder&)>& edit) {
    const TempFolder folder;
    Parts parts;
    edit(parts, folder);
    parts.write(folder);
    expect_error(kind, part, [&] { Checkpoint::open(folder.path(Parts::name(open))); });
  };
  const auto nothing = [](Parts&, const TempFolder&) {};
  refuse(ErrorKind::kUnsupported, "got part 2 of a model in 3 files; need the first", 1, nothing);
  refuse(ErrorKind::kCorruptFile, "got split.no 1 of split.count 3; need 2 of 3", 0,
         [](Parts& parts, const TempFolder&) { parts.files[2] = parts.files[1]; });
  refuse(ErrorKind::kCorruptFile, "got 3 tensors in all parts; need 4", 0,
         [](Parts& parts, const TempFolder&) {
           GgufBuilder empty;
           empty.set("split.no", uint32_t{2});
           empty.set("split.count", uint32_t{3});
           parts.files[2] = empty;
         });
  refuse(ErrorKind::kCorruptFile, "got split.tensors.count 5; need 4", 0,
         [](Parts& parts, const TempFolder&) {
           GgufBuilder other;
           other.set("split.no", uint32_t{1});
           other.set("split.count", uint32_t{3});
           other.set("split.tensors.count", uint32_t{5});
           parts.files[1] = other;
         });
  refuse(
      ErrorKind::kCorruptFile, "got general.architecture 'qwen3'; need 'llama'", 0,
      [](Parts& parts, const TempFolder&) { parts.files[2].set("general.architecture", "qwen3"); });
  refuse(ErrorKind::kNotFound, Parts::name(2), 0,
         [](Parts& parts, const TempFolder&) { parts.files.pop_back(); });
  const TempFolder folder;
  const std::string alone = folder.write("first.gguf", Parts().files[0].build());
  expect_error(ErrorKind::kCorruptFile, "need a name that ends in -00001-of-00003.gguf",
               [&] { Checkpoint::open(alone); });
}

TEST(Checkpoint, HelpersNameWhatIsWrong) {
  const TempFolder folder;
  const auto checkpoint = Checkpoint::open(folder.write("tiny.gguf", tiny_llama_gguf().build()));
  const auto kind = ErrorKind::kCorruptFile;
  expect_error(kind, "got no tensor 'x'; need it as [2, 3]",
               [&] { checkpoint->matrix("x", 2, 3); });
  expect_error(kind, "as [3, 8]; need [3, 9]",
               [&] { checkpoint->matrix("model.embed_tokens.weight", 3, 9); });
  expect_error(kind, "as [8]; need [8, 1]", [&] { checkpoint->matrix("model.norm.weight", 8, 1); });
  expect_error(kind, "as [8]; need [7]", [&] { checkpoint->vector("model.norm.weight", 7); });
  expect_error(kind, "as [3, 8]; need [24]",
               [&] { checkpoint->vector("model.embed_tokens.weight", 24); });
  expect_error(kind, "got no tensor 'y7'", [&] { checkpoint->expert_matrix("y{}", 7, 2, 3); });
  expect_error(ErrorKind::kInvalidArgument, "need {} where",
               [&] { checkpoint->expert_matrix("y", 7, 2, 3); });
}

TEST(Checkpoint, WidensVectorsAndRefusesOddTypes) {
  const TempFolder folder;
  folder.write("config.json", kConfig);
  FileBuilder data;
  data.put<uint16_t>(0x3c00).put<uint16_t>(0xc000);  // f16: 1, -2
  data.put<uint16_t>(0x3f80).put<uint16_t>(0x4040);  // bf16: 1, 3
  data.put<int32_t>(1).put<int32_t>(2);
  data.put<uint16_t>(0x3f80).put<uint16_t>(0x7f80);  // bf16: 1, infinity
  folder.write("model.safetensors",
               header_and_data(R"({"h":{"dtype":"F16","shape":[2],"data_offsets":[0,4]},)"
                               R"("b":{"dtype":"BF16","shape":[2],"data_offsets":[4,8]},)"
                               R"("i":{"dtype":"I32","shape":[2],"data_offsets":[8,16]},)"
                               R"("odd":{"dtype":"BF16","shape":[2],"data_offsets":[16,20]}})",
                               data.bytes()));
  const auto checkpoint = Checkpoint::open(folder.path());
  EXPECT_EQ(checkpoint->vector("h", 2), (std::vector<float>{1, -2}));
  EXPECT_EQ(checkpoint->vector("b", 2), (std::vector<float>{1, 3}));
  expect_error(ErrorKind::kUnsupported, "'i' as i32", [&] { checkpoint->vector("i", 2); });
  expect_error(ErrorKind::kCorruptFile, "got inf at [1] of 'odd'",
               [&] { checkpoint->vector("odd", 2); });
  EXPECT_EQ(checkpoint->vocab(), nullptr);
}

TEST(Checkpoint, RealignsDataBehindAHeaderOfOddLength) {
  const TempFolder folder;
  folder.write("config.json", kConfig);
  for (int spaces = 0; spaces < 8; ++spaces) {
    const std::vector<float> values{1.5F, -2.5F};
    const std::string header =
        R"({"w":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]}})" + std::string(spaces, ' ');
    folder.write("model.safetensors",
                 header_and_data(header, {reinterpret_cast<const char*>(values.data()), 8}));
    const auto checkpoint = Checkpoint::open(folder.path());
    const WeightView weight = checkpoint->matrix("w", 1, 2);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(weight.data) % 4, 0U);
    EXPECT_EQ(std::memcmp(weight.data, values.data(), 8), 0);
  }
}

TEST(Checkpoint, OpensShardsAndStripsPrefixes) {
  const TempFolder folder;
  folder.write("config.json", kConfig);
  folder.write("generation_config.json", R"({"eos_token_id":[1,2]})");
  const std::vector<float> values{1, 2, 3, 4};
  const auto data = std::as_bytes(std::span(values));
  const auto shard = [&](const std::string& file, const std::string& name) {
    const NamedTensor tensor{name, DType::kF32, {2, 2}, data};
    write_safetensors(folder.path(file), {&tensor, 1});
  };
  shard("a.safetensors", "language_model.model.norm.weight");
  shard("b.safetensors", "model.language_model.layers.0.x");
  shard("c.safetensors", "vision_tower.y");
  const auto index = [&](std::string_view extra) {
    folder.write("model.safetensors.index.json",
                 R"({"weight_map":{"language_model.model.norm.weight":"a.safetensors",)"
                 R"("model.language_model.layers.0.x":"b.safetensors",)"
                 R"("vision_tower.y":"c.safetensors")" +
                     std::string(extra) + "}}");
  };
  index("");
  const auto checkpoint = Checkpoint::open(folder.path());
  EXPECT_EQ(checkpoint->format(), "safetensors (3 shards)");
  EXPECT_EQ(checkpoint->names(),
            (std::vector<std::string>{"model.layers.0.x", "model.norm.weight", "vision_tower.y"}));
  EXPECT_EQ(checkpoint->total_bytes(), 48);
  EXPECT_EQ(checkpoint->config().eos_tokens, (std::vector<int32_t>{1, 2}));
  index(R"(,"absent":"a.safetensors")");
  expect_error(ErrorKind::kCorruptFile, "a.safetensors] got 1 of the tensors",
               [&] { Checkpoint::open(folder.path()); });
  index(R"(,"absent":"d.safetensors")");
  expect_error(ErrorKind::kNotFound, "d.safetensors", [&] { Checkpoint::open(folder.path()); });
  index("");
  const NamedTensor both[] = {{"vision_tower.y", DType::kF32, {2, 2}, data},
                              {"model.language_model.layers.0.x", DType::kF32, {2, 2}, data}};
  write_safetensors(folder.path("c.safetensors"), both);
  expect_error(ErrorKind::kCorruptFile,
               "c.safetensors] got 'model.language_model.layers.0.x', which the index places in "
               "'b.safetensors'",
               [&] { Checkpoint::open(folder.path()); });
}

TEST(Checkpoint, FindsExpertsApartOrStacked) {
  const TempFolder folder;
  GgufBuilder file = tiny_metadata("qwen3moe");
  file.set("qwen3moe.expert_count", uint32_t{3});
  file.set("qwen3moe.expert_used_count", uint32_t{1});
  file.set("qwen3moe.expert_feed_forward_length", uint32_t{2});
  file.f32("token_embd.weight", {8, 3}, std::vector<float>(24, 0.5F));
  std::vector<float> values(3 * 2 * 4);
  for (size_t idx = 0; idx < values.size(); ++idx) values[idx] = static_cast<float>(idx);
  file.f32("blk.0.ffn_up_exps.weight", {4, 2, 3}, values);
  file.f32("blk.0.ffn_gate_exps.weight", {4, 1, 6}, values);
  const auto stacked = Checkpoint::open(folder.write("tiny.gguf", file.build()));
  const std::string name = "model.layers.0.mlp.experts.{}.up_proj.weight";
  for (int32_t expert = 0; expert < 3; ++expert) {
    const WeightView one = stacked->expert_matrix(name, expert, 2, 4);
    float first = 0;
    std::memcpy(&first, one.row(1), sizeof first);
    EXPECT_EQ(first, static_cast<float>(expert * 8 + 4));
  }
  expect_error(ErrorKind::kCorruptFile, "as [3, 2, 4]; need [3, 2, 5]",
               [&] { stacked->expert_matrix(name, 2, 2, 5); });
  const std::string more = "model.layers.0.mlp.experts.{}.gate_proj.weight";  // than the config's
  expect_error(ErrorKind::kCorruptFile, "as [6, 1, 4]; need [3, 1, 4]",
               [&] { stacked->expert_matrix(more, 0, 1, 4); });
  for (const int32_t absent : {-1, 3}) {
    expect_error(ErrorKind::kInvalidArgument, "need one of 3",
                 [&] { stacked->expert_matrix(name, absent, 2, 4); });
  }

  const TempFolder apart_folder;
  apart_folder.write("config.json", kConfig);
  const NamedTensor tensor{
      "e.5.w", DType::kF32, {2, 4}, std::as_bytes(std::span(values)).first(32)};
  write_safetensors(apart_folder.path("weights.safetensors"), {&tensor, 1});  // the only file
  const auto apart = Checkpoint::open(apart_folder.path());
  EXPECT_EQ(apart->expert_matrix("e.{}.w", 5, 2, 4).cols, 4);
}

TEST(Checkpoint, SaysWhatIsMissing) {
  const TempFolder folder;
  const auto kind = ErrorKind::kNotFound;
  expect_error(kind, "need a .gguf file or a model folder",
               [&] { Checkpoint::open(folder.path("absent")); });
  expect_error(kind, "0 .gguf files", [&] { Checkpoint::open(folder.path()); });
  folder.write("a.gguf", "x");
  folder.write("b.gguf", "x");
  expect_error(kind, "2 .gguf files", [&] { Checkpoint::open(folder.path()); });
  expect_error(ErrorKind::kCorruptFile, "a.gguf] got 1 bytes left",
               [&] { Checkpoint::open(folder.path("a.gguf")); });
  folder.write("empty.gguf", "");
  expect_error(ErrorKind::kCorruptFile, "got 0 bytes left",
               [&] { Checkpoint::open(folder.path("empty.gguf")); });
  folder.write("config.json", kConfig);
  expect_error(kind, "got 0 .safetensors files and no index",
               [&] { Checkpoint::open(folder.path()); });
}

TEST(Checkpoint, RefusesTensorsThatMeetUnderOneName) {
  const TempFolder folder;
  folder.write("config.json", kConfig);
  const NamedTensor tensors[] = {{"a", DType::kF32, {0}, {}},
                                 {"language_model.a", DType::kF32, {0}, {}}};
  write_safetensors(folder.path("model.safetensors"), tensors);
  expect_error(ErrorKind::kCorruptFile, "twice", [&] { Checkpoint::open(folder.path()); });
}

}  // namespace
}  // namespace foveal::model

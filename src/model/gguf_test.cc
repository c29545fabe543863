#include "model/gguf.h"

#include <random>

#include "model/gguf_config.h"
#include "model/gguf_names.h"
#include "model/test_files.h"

namespace foveal::model {
namespace {

GgufFile parse(const ExactBytes& bytes) { return parse_gguf(bytes.span(), "test.gguf"); }

void expect_refused(ErrorKind kind, std::string_view part, const std::string& text) {
  const ExactBytes bytes(text);
  expect_error(kind, part, [&] { parse(bytes); });
}

TEST(Gguf, ReadsEveryMetadataType) {
  GgufBuilder file;
  file.entry().key("u8", GgufType::kU8).put<uint8_t>(200);
  file.entry().key("i8", GgufType::kI8).put<int8_t>(-7);
  file.entry().key("u16", GgufType::kU16).put<uint16_t>(60000);
  file.entry().key("i16", GgufType::kI16).put<int16_t>(-30000);
  file.entry().key("u32", GgufType::kU32).put<uint32_t>(4000000000U);
  file.entry().key("i32", GgufType::kI32).put<int32_t>(-5);
  file.entry().key("f32", GgufType::kF32).put(0.1F);
  file.entry().key("yes", GgufType::kBool).put<uint8_t>(1);
  file.entry().key("text", GgufType::kString).text("h\xc3\xa9llo");
  file.entry().key("u64", GgufType::kU64).put<uint64_t>(1ULL << 40);
  file.entry().key("huge", GgufType::kU64).put<uint64_t>(~0ULL);
  file.entry().key("i64", GgufType::kI64).put<int64_t>(-(1LL << 40));
  file.entry().key("f64", GgufType::kF64).put(0.1);
  file.set("strings", std::vector<std::string>{"", "a", "bc"});
  file.set("ints", std::vector<int32_t>{3, -4});
  const ExactBytes bytes(file.build());
  const GgufFile got = parse(bytes);
  EXPECT_EQ(got.version, 3U);
  EXPECT_EQ(got.find("u8")->as_int(), 200);
  EXPECT_EQ(got.find("i8")->as_int(), -7);
  EXPECT_EQ(got.find("u16")->as_int(), 60000);
  EXPECT_EQ(got.find("i16")->as_int(), -30000);
  EXPECT_EQ(got.find("u32")->as_int(), 4000000000);
  EXPECT_EQ(got.find("i32")->as_double(), -5.0);
  EXPECT_EQ(got.find("f32")->as_double(), 0.1F);
  EXPECT_EQ(got.find("f32")->as_int(), std::nullopt);
  EXPECT_EQ(got.find("yes")->as_bool(), true);
  EXPECT_EQ(got.find("text")->as_string(), "h\xc3\xa9llo");
  EXPECT_EQ(got.find("u64")->as_int(), 1LL << 40);
  EXPECT_EQ(got.find("huge")->as_int(), std::nullopt);
  EXPECT_EQ(got.find("i64")->as_int(), -(1LL << 40));
  EXPECT_EQ(got.find("f64")->as_double(), 0.1);
  EXPECT_EQ(got.find("strings")->as_strings(), (std::vector<std::string_view>{"", "a", "bc"}));
  EXPECT_EQ(got.find("ints")->as_ints(), (std::vector<int64_t>{3, -4}));
  EXPECT_EQ(got.find("ints")->as_doubles(), (std::vector<double>{3, -4}));
  EXPECT_EQ(got.find("ints")->as_strings(), std::nullopt);
  EXPECT_EQ(got.find("absent"), nullptr);
}

TEST(Gguf, WalksNestedArraysAndReadsOn) {
  GgufBuilder file;
  FileBuilder& out = file.entry().key("nested", GgufType::kArray).array(GgufType::kArray, 2);
  out.array(GgufType::kI16, 3).put<int16_t>(1).put<int16_t>(2).put<int16_t>(3);
  out.array(GgufType::kString, 1).text("x");
  file.set("after", uint32_t{9});
  const ExactBytes bytes(file.build());
  const GgufFile got = parse(bytes);
  EXPECT_EQ(got.find("nested")->count, 2U);
  EXPECT_EQ(got.find("nested")->as_ints(), std::nullopt);
  EXPECT_EQ(got.find("after")->as_int(), 9);
}

TEST(Gguf, ReversesShapesAndPointsIntoTheFile) {
  for (const uint32_t version : {2U, 3U}) {
    const ExactBytes bytes(tiny_llama_gguf().build(version));
    const GgufFile got = parse(bytes);
    ASSERT_EQ(got.tensors.size(), 4U);
    EXPECT_EQ(got.version, version);
    EXPECT_EQ(got.tensors[0].view.shape, (std::vector<int64_t>{3, 8}));
    EXPECT_EQ(got.tensors[1].name, "output_norm.weight");
    float values[8];
    std::memcpy(values, got.tensors[1].view.data, sizeof values);
    EXPECT_EQ(values[6], 7.0F);
  }
}

TEST(Gguf, SizesQuantisedRowsByBlocks) {
  GgufBuilder file;
  file.tensor("q", {64, 3}, 3, std::string(2 * 20 * 3, 'x'));  // Q4_1: 20 bytes for 32
  const ExactBytes bytes(file.build());
  const GgufFile got = parse(bytes);
  EXPECT_EQ(got.tensors[0].view.dtype, DType::kQ4_1);
  EXPECT_EQ(got.tensors[0].bytes, 120U);
  GgufBuilder broken;
  broken.tensor("q", {33, 3}, 3, std::string(200, 'x'));
  expect_refused(ErrorKind::kCorruptFile, "whole q4_1 blocks", broken.build());
}

TEST(Gguf, RefusesWhatItCannotRead) {
  expect_refused(ErrorKind::kCorruptFile, "got 0 bytes left at byte 0", "");
  expect_refused(ErrorKind::kCorruptFile, "need a GGUF file", std::string(64, 'x'));
  expect_refused(ErrorKind::kUnsupported, "version 1", tiny_llama_gguf().build(1));
  expect_refused(ErrorKind::kUnsupported, "big-endian", tiny_llama_gguf().build(0x03000000));
  GgufBuilder exotic;
  exotic.tensor("t", {256}, 20, std::string(256, 'x'));
  expect_refused(ErrorKind::kUnsupported, "'t' of type IQ4_NL", exotic.build());
  GgufBuilder unknown;
  unknown.tensor("t", {256}, 999, std::string(256, 'x'));
  expect_refused(ErrorKind::kCorruptFile, "type 999", unknown.build());
  GgufBuilder twice;
  twice.set("k", uint32_t{1});
  twice.set("k", uint32_t{2});
  expect_refused(ErrorKind::kCorruptFile, "'k' twice", twice.build());
  GgufBuilder alignment;
  alignment.set("general.alignment", uint32_t{24});
  expect_refused(ErrorKind::kCorruptFile, "general.alignment 24", alignment.build());
}

TEST(Gguf, RefusesHugeClaimsBeforeAllocating) {
  constexpr uint64_t kHuge = 1ULL << 60;
  const auto header = [](uint64_t tensors, uint64_t entries) {
    FileBuilder file;
    return file.raw("GGUF").put<uint32_t>(3).put(tensors).put(entries);
  };
  expect_refused(ErrorKind::kCorruptFile, "tensors", header(kHuge, 0).pad(64).bytes());
  expect_refused(ErrorKind::kCorruptFile, "metadata entries", header(0, kHuge).pad(64).bytes());
  for (const GgufType element :
       {GgufType::kU8, GgufType::kF64, GgufType::kString, GgufType::kArray}) {
    for (const uint64_t count : {kHuge, ~uint64_t{0}, uint64_t{1} << 61}) {
      FileBuilder file = header(0, 1);
      file.key("k", GgufType::kArray).array(element, count).pad(64);
      expect_refused(ErrorKind::kCorruptFile, "bytes left", file.bytes());
    }
  }
  FileBuilder text = header(0, 1);
  text.key("k", GgufType::kString).put(kHuge).pad(64);
  expect_refused(ErrorKind::kCorruptFile, "a metadata string", text.bytes());
  GgufBuilder product;
  product.tensor("t", {1ULL << 32, 1ULL << 32, 1ULL << 32}, 0, "");
  expect_refused(ErrorKind::kCorruptFile, "below 2^63", product.build());
  GgufBuilder negative;
  negative.tensor("t", {~uint64_t{0}}, 0, "");
  expect_refused(ErrorKind::kCorruptFile, "positive", negative.build());
}

TEST(Gguf, RefusesDeepNesting) {
  GgufBuilder file;
  FileBuilder& out = file.entry().key("deep", GgufType::kArray);
  for (int level = 0; level < 1000; ++level) out.array(GgufType::kArray, 1);
  out.array(GgufType::kU8, 0);
  expect_refused(ErrorKind::kCorruptFile, "nested deeper", file.build());
}

TEST(Gguf, RefusesOverlapAndBadOffsets) {
  const std::string good = tiny_llama_gguf().build();
  const std::string second_offset = [] {
    FileBuilder at;
    return at.put<uint32_t>(0).put<uint64_t>(96).bytes();  // type F32, offset of the second tensor
  }();
  const size_t at = good.find(second_offset) + 4;
  ASSERT_LT(at, good.size());
  const auto with_offset = [&](uint64_t offset) {
    std::string changed = good;
    std::memcpy(changed.data() + at, &offset, sizeof offset);
    return changed;
  };
  expect_refused(ErrorKind::kCorruptFile, "overlapping", with_offset(64));
  expect_refused(ErrorKind::kCorruptFile, "multiple of 32", with_offset(100));
  expect_refused(ErrorKind::kCorruptFile, "is the file complete?", with_offset(1ULL << 40));
  expect_refused(ErrorKind::kCorruptFile, "is the file complete?", with_offset(~uint64_t{31}));
}

/// Everything a checkpoint does with parsed bytes.
void use(const ExactBytes& bytes) {
  const GgufFile file = parse_gguf(bytes.span(), "test.gguf");
  const ModelConfig config = read_gguf_config(file, "test.gguf");
  const tokenizer::GgufVocab vocab = read_gguf_vocab(file, "test.gguf");
  for (const std::string_view token : vocab.tokens) EXPECT_LE(token.size(), bytes.span().size());
  for (const GgufTensor& tensor : file.tensors) {
    hf_tensor_name(tensor.name, config.architecture);
    if (tensor.bytes == 0) continue;
    const volatile std::byte first = tensor.view.data[0];
    const volatile std::byte last = tensor.view.data[tensor.bytes - 1];
    static_cast<void>(first);
    static_cast<void>(last);
  }
}

TEST(Gguf, EveryTruncationIsRefused) {
  const std::string good = tiny_llama_gguf().build();
  use(ExactBytes(good));
  for (size_t size = 0; size < good.size(); ++size) {
    const ExactBytes cut(std::string_view(good).substr(0, size));
    expect_error(ErrorKind::kCorruptFile, "test.gguf", [&] { use(cut); });
  }
}

TEST(Gguf, EveryFlippedHeaderByteLoadsOrIsRefused) {
  const GgufBuilder builder = tiny_llama_gguf();
  const std::string good = builder.build();
  size_t loaded = 0;
  for (size_t at = 0; at < builder.header_bytes; ++at) {
    for (const int mask : {0x01, 0x80, 0xff, 0x20}) {
      std::string changed = good;
      changed[at] = static_cast<char>(changed[at] ^ mask);
      const ExactBytes bytes(changed);
      if (loads_or_refuses([&] { use(bytes); })) ++loaded;
    }
  }
  EXPECT_GT(loaded, 0U);  // letters of names and the like
  EXPECT_LT(loaded, builder.header_bytes * 4);
}

TEST(Gguf, RandomEditsNeverCrash) {
  const uint64_t seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937_64 rng(seed);
  const std::string good = tiny_llama_gguf().build();
  for (int trial = 0; trial < 3000; ++trial) {
    std::string changed = good.substr(0, good.size() - rng() % 2 * (rng() % good.size()));
    for (uint64_t edit = rng() % 6 + 1; edit > 0 && changed.size() > 8; --edit) {
      const uint64_t value = rng() % 2 == 0 ? rng() : rng() % 64;
      std::memcpy(changed.data() + rng() % (changed.size() - 8), &value, 1 + rng() % 8);
    }
    const ExactBytes bytes(changed);
    loads_or_refuses([&] { use(bytes); });
  }
}

TEST(GgufNames, BecomeHuggingFaceNames) {
  const auto name = [](std::string_view from, std::string_view arch = "llama") {
    return hf_tensor_name(from, arch);
  };
  EXPECT_EQ(name("token_embd.weight"), "model.embed_tokens.weight");
  EXPECT_EQ(name("output.weight"), "lm_head.weight");
  EXPECT_EQ(name("output_norm.weight"), "model.norm.weight");
  EXPECT_EQ(name("blk.12.attn_q.bias"), "model.layers.12.self_attn.q_proj.bias");
  EXPECT_EQ(name("blk.0.attn_output.weight"), "model.layers.0.self_attn.o_proj.weight");
  EXPECT_EQ(name("blk.0.attn_norm.weight"), "model.layers.0.input_layernorm.weight");
  EXPECT_EQ(name("blk.0.ffn_norm.weight"), "model.layers.0.post_attention_layernorm.weight");
  EXPECT_EQ(name("blk.0.ffn_norm.weight", "gemma3"),
            "model.layers.0.pre_feedforward_layernorm.weight");
  EXPECT_EQ(name("blk.0.post_attention_norm.weight", "gemma3"),
            "model.layers.0.post_attention_layernorm.weight");
  EXPECT_EQ(name("blk.0.post_ffw_norm.weight", "gemma3"),
            "model.layers.0.post_feedforward_layernorm.weight");
  EXPECT_EQ(name("blk.0.attn_k_norm.weight", "qwen3"), "model.layers.0.self_attn.k_norm.weight");
  EXPECT_EQ(name("blk.0.attn_qkv.weight", "phi3"), "model.layers.0.self_attn.qkv_proj.weight");
  EXPECT_EQ(name("blk.0.ffn_up.weight", "phi3"), "model.layers.0.mlp.gate_up_proj.weight");
  EXPECT_EQ(name("blk.0.ffn_up.weight"), "model.layers.0.mlp.up_proj.weight");
  EXPECT_EQ(name("blk.3.ffn_gate_inp.weight", "qwen3_moe"), "model.layers.3.mlp.gate.weight");
  EXPECT_EQ(name("blk.3.ffn_down_exps.weight", "qwen3_moe"),
            "model.layers.3.mlp.experts.{}.down_proj.weight");
  for (const std::string_view kept : {"rope_freqs.weight", "blk.x.attn_q.weight", "blk.0.weight",
                                      "blk..attn_q.weight", "nodot", "blk.0.unknown.weight", ""}) {
    EXPECT_EQ(name(kept), kept);
  }
}

}  // namespace
}  // namespace foveal::model

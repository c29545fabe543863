#include "model/gguf_config.h"

#include <cmath>

#include "model/test_files.h"

namespace foveal::model {
namespace {

using kernels::RopeStyle;
using Scaling = RopeConfig::Scaling;

/// The keys every family has, and an embedding of 5 tokens.
GgufBuilder base(const std::string& arch, uint32_t layers = 4) {
  GgufBuilder file;
  file.set("general.architecture", arch.c_str());
  file.set(arch + ".block_count", layers);
  file.set(arch + ".context_length", uint32_t{1024});
  file.set(arch + ".embedding_length", uint32_t{16});
  file.set(arch + ".feed_forward_length", uint32_t{24});
  file.set(arch + ".attention.head_count", uint32_t{2});
  file.set(arch + ".attention.head_count_kv", uint32_t{1});
  file.set(arch + ".attention.layer_norm_rms_epsilon", 1e-6F);
  file.f32("token_embd.weight", {16, 5}, std::vector<float>(80, 1.0F));
  return file;
}

ModelConfig read(const GgufBuilder& builder) {
  const ExactBytes bytes(builder.build());
  return read_gguf_config(parse_gguf(bytes.span(), "test.gguf"), "test.gguf");
}

void expect_refused(ErrorKind kind, std::string_view part, const GgufBuilder& builder) {
  expect_error(kind, part, [&] { read(builder); });
}

TEST(GgufConfig, Llama) {
  GgufBuilder file = base("llama");
  file.set("llama.rope.freq_base", 5e5F);
  file.set("tokenizer.ggml.bos_token_id", uint32_t{1});
  file.set("tokenizer.ggml.eos_token_id", uint32_t{2});
  file.set("tokenizer.ggml.eot_token_id", uint32_t{3});
  file.f32("rope_freqs.weight", {4}, {1, 2, 4, 8});
  const ModelConfig config = read(file);
  EXPECT_TRUE(config.from_gguf);
  EXPECT_EQ(config.architecture, "llama");
  EXPECT_EQ(config.rope_style, RopeStyle::kInterleaved);
  EXPECT_EQ(config.hidden_size, 16);
  EXPECT_EQ(config.intermediate_size, 24);
  EXPECT_EQ(config.num_layers, 4);
  EXPECT_EQ(config.num_heads, 2);
  EXPECT_EQ(config.num_kv_heads, 1);
  EXPECT_EQ(config.head_dim, 8);
  EXPECT_EQ(config.rotary_dim, 8);
  EXPECT_EQ(config.vocab_size, 5);
  EXPECT_EQ(config.max_positions, 1024);
  EXPECT_EQ(static_cast<float>(config.norm_eps), 1e-6F);
  EXPECT_TRUE(config.tie_embeddings);
  EXPECT_EQ(config.rope.theta, 5e5);
  EXPECT_EQ(config.rope.scaling, Scaling::kNone);
  EXPECT_EQ(config.rope.freq_factors, (std::vector<float>{1, 2, 4, 8}));
  EXPECT_EQ(config.bos_token, 1);
  EXPECT_EQ(config.eos_tokens, (std::vector<int32_t>{2, 3}));
  EXPECT_EQ(config.windows, (std::vector<int32_t>{0, 0, 0, 0}));
}

TEST(GgufConfig, UntiedAndBiased) {
  GgufBuilder file = base("qwen2");
  file.f32("output.weight", {16, 5}, std::vector<float>(80, 1.0F));
  file.f32("blk.0.attn_q.bias", {16}, std::vector<float>(16, 1.0F));
  const ModelConfig config = read(file);
  EXPECT_FALSE(config.tie_embeddings);
  EXPECT_TRUE(config.attention_bias);
  EXPECT_EQ(config.rope_style, RopeStyle::kHalf);
}

TEST(GgufConfig, Gemma3) {
  GgufBuilder file = base("gemma3", 7);
  file.set("gemma3.attention.key_length", uint32_t{32});
  file.set("gemma3.attention.value_length", uint32_t{32});
  file.set("gemma3.attention.sliding_window", uint32_t{64});
  file.set("gemma3.rope.freq_base", 1e6F);
  file.set("gemma3.rope.scaling.type", "linear");
  file.set("gemma3.rope.scaling.factor", 8.0F);
  const ModelConfig config = read(file);
  EXPECT_EQ(config.head_dim, 32);
  EXPECT_EQ(config.windows, (std::vector<int32_t>{64, 64, 64, 64, 64, 0, 64}));
  EXPECT_EQ(config.rope.scaling, Scaling::kLinear);
  EXPECT_EQ(config.rope.factor, 8);
  EXPECT_EQ(config.local_rope->theta, 1e4);
  EXPECT_EQ(config.local_rope->scaling, Scaling::kNone);
  EXPECT_EQ(config.attention_scale, 1 / std::sqrt(32.0));
  EXPECT_EQ(config.embedding_multiplier, 4);
  EXPECT_EQ(config.activation, kernels::Activation::kGeluTanh);
  GgufBuilder wide = base("gemma3", 2);
  wide.set("gemma3.attention.sliding_window", uint32_t{4096});  // past the context of 1024
  EXPECT_EQ(read(wide).windows, (std::vector<int32_t>{4096, 4096}));
  GgufBuilder flags = base("gemma3", 3);
  flags.set("gemma3.attention.sliding_window", uint32_t{64});
  flags.set("gemma3.attention.sliding_window_pattern", std::vector<int32_t>{0, 1, 1});
  EXPECT_EQ(read(flags).windows, (std::vector<int32_t>{0, 64, 64}));
}

TEST(GgufConfig, Qwen3Moe) {
  GgufBuilder file = base("qwen3moe");
  file.set("qwen3moe.expert_count", uint32_t{8});
  file.set("qwen3moe.expert_used_count", uint32_t{2});
  file.set("qwen3moe.expert_feed_forward_length", uint32_t{12});
  const ModelConfig config = read(file);
  EXPECT_EQ(config.architecture, "qwen3_moe");
  EXPECT_EQ(config.num_experts, 8);
  EXPECT_EQ(config.experts_per_token, 2);
  EXPECT_EQ(config.moe_intermediate_size, 12);
  EXPECT_TRUE(config.norm_topk_prob);
  EXPECT_EQ(config.moe_layers, (std::vector<uint8_t>{1, 1, 1, 1}));
  GgufBuilder mixtral = base("llama");
  mixtral.set("llama.expert_count", uint32_t{8});
  expect_refused(ErrorKind::kUnsupported, "8 experts in a llama model", mixtral);
}

TEST(GgufConfig, GraniteSmolLm3Phi3) {
  GgufBuilder granite = base("granite");
  granite.set("granite.embedding_scale", 12.0F);
  granite.set("granite.residual_scale", 0.25F);
  granite.set("granite.attention.scale", 0.0625F);
  granite.set("granite.logit_scale", 8.0F);
  const ModelConfig scaled = read(granite);
  EXPECT_EQ(scaled.embedding_multiplier, 12);
  EXPECT_EQ(scaled.residual_multiplier, 0.25);
  EXPECT_EQ(scaled.attention_scale, 0.0625);
  EXPECT_EQ(scaled.logits_divisor, 8);
  EXPECT_EQ(read(base("smollm3")).use_rope, (std::vector<uint8_t>{1, 1, 1, 0}));

  GgufBuilder phi = base("phi3");
  phi.set("phi3.rope.dimension_count", uint32_t{6});
  phi.set("phi3.rope.scaling.original_context_length", uint32_t{256});
  phi.set("phi3.rope.scaling.attn_factor", 1.25F);
  phi.set("phi3.attention.sliding_window", uint32_t{100});
  phi.f32("rope_factors_long.weight", {3}, {2, 3, 4});
  phi.f32("rope_factors_short.weight", {3}, {1, 1, 2});
  const ModelConfig config = read(phi);
  EXPECT_EQ(config.rotary_dim, 6);
  EXPECT_EQ(config.rope.scaling, Scaling::kLongRope);
  EXPECT_EQ(config.rope.factor, 4);
  EXPECT_EQ(config.rope.attention_factor, 1.25);
  EXPECT_EQ(config.rope.long_factor, (std::vector<double>{2, 3, 4}));
  EXPECT_EQ(config.windows[2], 100);
}

TEST(GgufConfig, YarnMultipliesItsAttentionFactor) {
  GgufBuilder file = base("qwen2");
  file.set("qwen2.rope.scaling.type", "yarn");
  file.set("qwen2.rope.scaling.factor", 4.0F);
  file.set("qwen2.rope.scaling.original_context_length", uint32_t{256});
  EXPECT_EQ(read(file).rope.scaling, Scaling::kYarn);
  EXPECT_EQ(read(file).rope.attention_factor, 0);
  EXPECT_EQ(read(file).rope.original_max_positions, 256);
  file.set("qwen2.rope.scaling.attn_factor", 2.0F);
  EXPECT_DOUBLE_EQ(read(file).rope.attention_factor, 2 * (1 + 0.1 * std::log(4.0)));
}

TEST(GgufConfig, RefusesWhatCannotBe) {
  const auto corrupt = ErrorKind::kCorruptFile;
  expect_refused(corrupt, "no general.architecture", GgufBuilder());
  GgufBuilder bert;
  bert.set("general.architecture", "bert");
  expect_refused(ErrorKind::kUnsupported, "got architecture 'bert'; need one of llama", bert);
  GgufBuilder empty;
  empty.set("general.architecture", "llama");
  expect_refused(corrupt, "got no llama.embedding_length", empty);
  GgufBuilder layers;
  layers.set("general.architecture", "llama");
  layers.set("llama.embedding_length", uint32_t{16});
  layers.set("llama.block_count", uint32_t{4000000000});
  expect_refused(corrupt, "llama.block_count 4000000000", layers);
  GgufBuilder text = base("llama");
  text.set("llama.rope.freq_base", "x");
  expect_refused(corrupt, "llama.rope.freq_base", text);
  GgufBuilder differs = base("llama");
  differs.set("llama.attention.key_length", std::vector<int32_t>{8, 16, 8, 8});
  expect_refused(ErrorKind::kUnsupported, "differs by layer", differs);
  GgufBuilder value = base("llama");
  value.set("llama.attention.value_length", uint32_t{4});
  expect_refused(ErrorKind::kUnsupported, "value_length 4", value);
  GgufBuilder factors = base("llama");
  factors.f32("rope_freqs.weight", {3}, {1, 1, 1});
  expect_refused(corrupt, "need f32 [4]", factors);
}

TEST(GgufVocab, ReadsListsAndSpecials) {
  GgufBuilder file;
  file.set("tokenizer.ggml.model", "llama");
  file.set("tokenizer.ggml.pre", "default");
  file.set("tokenizer.ggml.tokens", std::vector<std::string>{"<s>", "a", "<0x00>"});
  file.entry()
      .key("tokenizer.ggml.scores", GgufType::kArray)
      .array(GgufType::kF32, 3)
      .put(0.0F)
      .put(-1.5F)
      .put(-2.0F);
  file.set("tokenizer.ggml.token_type", std::vector<int32_t>{3, 1, 6});
  file.set("tokenizer.ggml.bos_token_id", uint32_t{0});
  file.set("tokenizer.ggml.unknown_token_id", uint32_t{2});
  file.set("tokenizer.ggml.add_space_prefix", false);
  file.set("tokenizer.chat_template", "{{ x }}");
  const ExactBytes bytes(file.build());
  const auto vocab = read_gguf_vocab(parse_gguf(bytes.span(), "t"), "t");
  EXPECT_EQ(vocab.model, "llama");
  EXPECT_EQ(vocab.tokens, (std::vector<std::string_view>{"<s>", "a", "<0x00>"}));
  EXPECT_EQ(vocab.scores, (std::vector<float>{0, -1.5F, -2}));
  EXPECT_EQ(vocab.types, (std::vector<int32_t>{3, 1, 6}));
  EXPECT_EQ(vocab.bos, 0);
  EXPECT_EQ(vocab.unk, 2);
  EXPECT_EQ(vocab.eos, std::nullopt);
  EXPECT_TRUE(vocab.add_bos);  // SentencePiece unless the file says otherwise
  EXPECT_FALSE(vocab.add_space_prefix);
  EXPECT_EQ(vocab.chat_template, "{{ x }}");
}

TEST(GgufVocab, RefusesListsThatDisagree) {
  const auto refuse = [](std::string_view part, const std::function<void(GgufBuilder&)>& edit) {
    GgufBuilder file;
    file.set("tokenizer.ggml.tokens", std::vector<std::string>{"a", "b"});
    edit(file);
    const ExactBytes bytes(file.build());
    const GgufFile parsed = parse_gguf(bytes.span(), "t");
    expect_error(ErrorKind::kCorruptFile, part, [&] { read_gguf_vocab(parsed, "t"); });
  };
  refuse("token_type; need 2", [](GgufBuilder& file) {
    file.set("tokenizer.ggml.token_type", std::vector<int32_t>{1, 1, 1});
  });
  refuse("token type 300", [](GgufBuilder& file) {
    file.set("tokenizer.ggml.token_type", std::vector<int32_t>{1, 300});
  });
  refuse("eos_token_id 2",
         [](GgufBuilder& file) { file.set("tokenizer.ggml.eos_token_id", uint32_t{2}); });
  refuse("array of strings",
         [](GgufBuilder& file) { file.set("tokenizer.ggml.merges", std::vector<int32_t>{1}); });
}

}  // namespace
}  // namespace foveal::model

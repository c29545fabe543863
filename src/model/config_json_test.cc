#include "model/config_json.h"

#include <cmath>

#include "model/config_check.h"
#include "model/json_text.h"
#include "model/test_files.h"

namespace foveal::model {
namespace {

using kernels::Activation;
using Scaling = RopeConfig::Scaling;

/// config.json of a golden family, as transformers writes it.
ModelConfig golden(const std::string& family) {
  const std::string path =
      std::string(FOVEAL_SOURCE_DIR) + "/tests/golden/" + family + "/config.json";
  std::ifstream file(path);
  EXPECT_TRUE(file.good()) << path;
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  return parse_config_json(text, path);
}

/// A small config of a family with further fields (",\"x\":1"); a field given twice counts last.
std::string small(const std::string& type, const std::string& fields) {
  return R"({"hidden_size":64,"intermediate_size":96,"num_hidden_layers":4,)"
         R"("num_attention_heads":4,"num_key_value_heads":2,"vocab_size":100,)"
         R"("max_position_embeddings":4096,"head_dim":16,"model_type":")" +
         type + "\"" + fields + "}";
}

ModelConfig parse(const std::string& type, const std::string& fields = "") {
  return parse_config_json(small(type, fields), "config.json");
}

void expect_refused(ErrorKind kind, std::string_view part, const std::string& type,
                    const std::string& fields) {
  expect_error(kind, part, [&] { parse(type, fields); });
}

TEST(ConfigJson, Llama) {
  const ModelConfig config = golden("llama");
  EXPECT_EQ(config.architecture, "llama");
  EXPECT_FALSE(config.from_gguf);
  EXPECT_EQ(config.hidden_size, 192);
  EXPECT_EQ(config.intermediate_size, 176);
  EXPECT_EQ(config.num_layers, 2);
  EXPECT_EQ(config.num_heads, 3);
  EXPECT_EQ(config.num_kv_heads, 1);
  EXPECT_EQ(config.head_dim, 64);
  EXPECT_EQ(config.rotary_dim, 64);
  EXPECT_EQ(config.vocab_size, 384);
  EXPECT_EQ(config.max_positions, 1024);
  EXPECT_EQ(config.norm_eps, 1e-5);
  EXPECT_EQ(config.activation, Activation::kSilu);
  EXPECT_TRUE(config.tie_embeddings);
  EXPECT_FALSE(config.attention_bias);
  EXPECT_EQ(config.rope.theta, 1e4);
  EXPECT_EQ(config.rope.scaling, Scaling::kNone);
  EXPECT_EQ(config.rope_style, kernels::RopeStyle::kHalf);
  EXPECT_EQ(config.windows, (std::vector<int32_t>{0, 0}));
  EXPECT_EQ(config.use_rope, (std::vector<uint8_t>{1, 1}));
  EXPECT_EQ(config.bos_token, 1);
  EXPECT_EQ(config.eos_tokens, std::vector<int32_t>{2});
}

TEST(ConfigJson, Llama3Scaling) {
  const RopeConfig rope = golden("llama3").rope;
  EXPECT_EQ(rope.scaling, Scaling::kLlama3);
  EXPECT_EQ(rope.theta, 5e5);
  EXPECT_EQ(rope.factor, 8);
  EXPECT_EQ(rope.low_freq_factor, 1);
  EXPECT_EQ(rope.high_freq_factor, 4);
  EXPECT_EQ(rope.original_max_positions, 128);
}

TEST(ConfigJson, MistralWindowHoldsForEveryLayer) {
  EXPECT_EQ(golden("mistral").windows, (std::vector<int32_t>{0, 0}));
  EXPECT_EQ(golden("mistral_sliding").windows, (std::vector<int32_t>{96, 96, 96}));
  EXPECT_EQ(golden("mistral").rope.theta, 1e6);
  // The class's default is 4096, which a context of 4096 cannot outgrow.
  EXPECT_EQ(parse("mistral").windows[0], 0);
  EXPECT_EQ(parse("mistral", R"(,"max_position_embeddings":8192)").windows[0], 4096);
  EXPECT_EQ(parse("mistral", R"(,"max_position_embeddings":8192,"sliding_window":null)").windows[0],
            0);
}

TEST(ConfigJson, QwenWindowIsOffUnlessSwitchedOn) {
  const ModelConfig config = golden("qwen2");
  EXPECT_EQ(config.windows, (std::vector<int32_t>{0, 0}));
  EXPECT_TRUE(config.attention_bias);
  EXPECT_TRUE(config.tie_embeddings);
  EXPECT_FALSE(golden("qwen3").attention_bias);
  const std::string on = R"(,"use_sliding_window":true,"sliding_window":32,"max_window_layers":3)";
  EXPECT_EQ(parse("qwen2", on).windows, (std::vector<int32_t>{0, 0, 0, 32}));
  EXPECT_EQ(parse("qwen3", on).windows, (std::vector<int32_t>{0, 0, 0, 32}));
  EXPECT_EQ(parse("qwen3", on + R"(,"layer_types":["sliding_attention","full_attention",)"
                                R"("sliding_attention","full_attention"])")
                .windows,
            (std::vector<int32_t>{32, 0, 32, 0}));
  expect_refused(ErrorKind::kCorruptFile, "got 1 layer_types", "qwen3",
                 on + R"(,"layer_types":["full_attention"])");
  expect_refused(ErrorKind::kUnsupported, "chunked_attention", "qwen3",
                 on + R"(,"layer_types":["chunked_attention","chunked_attention",)"
                      R"("chunked_attention","chunked_attention"])");
}

TEST(ConfigJson, Qwen3DefaultsItsHeadDim) {
  const std::string text = R"({"model_type":"qwen3","hidden_size":64,"intermediate_size":96,
    "num_hidden_layers":1,"num_attention_heads":4,"num_key_value_heads":2,"vocab_size":100})";
  EXPECT_EQ(parse_config_json(text, "c").head_dim, 128);
  EXPECT_EQ(parse_config_json(text, "c").max_positions, 32768);
}

TEST(ConfigJson, Qwen3Moe) {
  const ModelConfig config = golden("qwen3_moe");
  EXPECT_EQ(config.num_experts, 8);
  EXPECT_EQ(config.experts_per_token, 2);
  EXPECT_EQ(config.moe_intermediate_size, 48);
  EXPECT_TRUE(config.norm_topk_prob);
  EXPECT_EQ(config.moe_layers, (std::vector<uint8_t>{1, 1}));
  const std::string experts =
      R"(,"num_experts":4,"num_experts_per_tok":2,"moe_intermediate_size":8)";
  EXPECT_EQ(parse("qwen3_moe", experts + R"(,"decoder_sparse_step":2)").moe_layers,
            (std::vector<uint8_t>{0, 1, 0, 1}));
  EXPECT_EQ(parse("qwen3_moe", experts + R"(,"mlp_only_layers":[0,2,99])").moe_layers,
            (std::vector<uint8_t>{0, 1, 0, 1}));
  expect_refused(ErrorKind::kCorruptFile, "num_experts_per_tok", "qwen3_moe",
                 R"(,"num_experts":4,"num_experts_per_tok":5,"moe_intermediate_size":8)");
}

TEST(ConfigJson, Gemma3) {
  const ModelConfig config = golden("gemma3");
  EXPECT_EQ(config.architecture, "gemma3");
  EXPECT_EQ(config.activation, Activation::kGeluTanh);
  EXPECT_EQ(config.windows, (std::vector<int32_t>{64, 64, 0, 64}));
  EXPECT_EQ(config.rope.theta, 1e6);
  EXPECT_EQ(config.rope.scaling, Scaling::kLinear);
  EXPECT_EQ(config.rope.factor, 8);
  ASSERT_TRUE(config.local_rope);
  EXPECT_EQ(config.local_rope->theta, 1e4);
  EXPECT_EQ(config.local_rope->scaling, Scaling::kNone);
  EXPECT_EQ(config.embedding_multiplier, std::sqrt(128.0));
  EXPECT_EQ(config.attention_scale, 1 / std::sqrt(168.0));
  EXPECT_EQ(config.eos_tokens, std::vector<int32_t>{1});
}

TEST(ConfigJson, Gemma3KeepsWideWindowsBecauseTheyChooseTheRotation) {
  const std::string pattern = R"(,"sliding_window_pattern":2,"sliding_window":)";
  EXPECT_EQ(parse("gemma3_text", pattern + "9999").windows,
            (std::vector<int32_t>{9999, 0, 9999, 0}));
  EXPECT_EQ(parse("gemma3_text", pattern + "null").windows,
            (std::vector<int32_t>{4096, 0, 4096, 0}));
}

TEST(ConfigJson, Gemma3NewSpellingGivesRopeByLayerType) {
  const ModelConfig config = parse(
      "gemma3_text", R"(,"sliding_window":50,"layer_types":["sliding_attention","full_attention",)"
                     R"("sliding_attention","full_attention"],"rope_parameters":{)"
                     R"("full_attention":{"rope_type":"linear","factor":2,"rope_theta":500000.0},)"
                     R"("sliding_attention":{"rope_type":"default","rope_theta":20000.0}})");
  EXPECT_EQ(config.windows, (std::vector<int32_t>{50, 0, 50, 0}));
  EXPECT_EQ(config.rope.theta, 5e5);
  EXPECT_EQ(config.rope.factor, 2);
  EXPECT_EQ(config.local_rope->theta, 2e4);
}

TEST(ConfigJson, Gemma3InsideAMultimodalConfig) {
  // As in the 4B release: the inner object leaves out what equals the defaults.
  const ModelConfig config = parse_config_json(
      R"({"model_type":"gemma3","eos_token_id":[1,106],"text_config":{"hidden_size":2560,
          "intermediate_size":10240,"model_type":"gemma3_text","num_hidden_layers":34,
          "rope_scaling":{"factor":8.0,"rope_type":"linear"},"sliding_window":1024}})",
      "config.json");
  EXPECT_EQ(config.num_heads, 8);
  EXPECT_EQ(config.num_kv_heads, 4);
  EXPECT_EQ(config.head_dim, 256);
  EXPECT_EQ(config.vocab_size, 262208);
  EXPECT_EQ(config.max_positions, 131072);
  EXPECT_EQ(config.norm_eps, 1e-6);
  EXPECT_TRUE(config.tie_embeddings);
  EXPECT_EQ(config.activation, Activation::kGeluTanh);
  EXPECT_EQ(config.attention_scale, 1.0 / 16);
  EXPECT_EQ(config.windows[4], 1024);
  EXPECT_EQ(config.windows[5], 0);
  EXPECT_EQ(config.eos_tokens, (std::vector<int32_t>{1, 106}));
}

TEST(ConfigJson, SmolLm3LeavesRopeOut) {
  const ModelConfig config = golden("smollm3");
  EXPECT_EQ(config.use_rope, (std::vector<uint8_t>{1, 1, 0, 1}));
  EXPECT_EQ(config.rope.theta, 2e6);  // in rope_parameters
  EXPECT_EQ(config.windows, (std::vector<int32_t>{0, 0, 0, 0}));
  EXPECT_EQ(parse("smollm3").use_rope, (std::vector<uint8_t>{1, 1, 1, 0}));
  EXPECT_TRUE(parse("smollm3").tie_embeddings);
  EXPECT_EQ(parse("smollm3", R"(,"no_rope_layer_interval":2)").use_rope,
            (std::vector<uint8_t>{1, 0, 1, 0}));
  EXPECT_EQ(parse("smollm3", R"(,"use_sliding_window":true,"sliding_window":7)").windows,
            (std::vector<int32_t>{0, 0, 0, 7}));
  expect_refused(ErrorKind::kCorruptFile, "no_rope_layers", "smollm3",
                 R"(,"no_rope_layers":[1,0,2,1])");
}

TEST(ConfigJson, Phi3) {
  EXPECT_EQ(golden("phi3").windows, (std::vector<int32_t>{0, 0}));
  EXPECT_EQ(parse("phi3", R"(,"sliding_window":2047)").windows[3], 2047);
  EXPECT_EQ(parse("phi3", R"(,"sliding_window":262144)").windows[0], 0);
  EXPECT_EQ(parse("phi3", R"(,"partial_rotary_factor":0.75)").rotary_dim, 12);
  expect_refused(ErrorKind::kUnsupported, "rotating channels", "phi3",
                 R"(,"partial_rotary_factor":0.7)");
  const std::string factors = R"("short_factor":[1,1.5,2,2,2,2,2,2],)"
                              R"("long_factor":[2,3,4,5,6,7,8,9])";
  for (const std::string type : {"longrope", "su", "yarn"}) {
    const RopeConfig rope = parse("phi3", R"(,"original_max_position_embeddings":1024,)"
                                          R"("rope_scaling":{"type":")" +
                                              type + "\"," + factors + "}")
                                .rope;
    EXPECT_EQ(rope.scaling, Scaling::kLongRope);
    EXPECT_EQ(rope.original_max_positions, 1024);
    EXPECT_EQ(rope.factor, 4);
    EXPECT_EQ(rope.attention_factor, 0);
    EXPECT_EQ(rope.short_factor[1], 1.5);
    EXPECT_EQ(rope.long_factor[7], 9);
  }
  expect_refused(ErrorKind::kCorruptFile, "short_factor; need 6", "phi3",
                 R"(,"partial_rotary_factor":0.75,"rope_scaling":{"type":"su",)" + factors + "}");
  expect_refused(ErrorKind::kCorruptFile, "long_factor", "phi3",
                 R"(,"rope_scaling":{"type":"su","short_factor":[1,1,1,1,1,1,1,1]})");
}

TEST(ConfigJson, GraniteMultipliers) {
  const ModelConfig config = golden("granite");
  EXPECT_EQ(config.embedding_multiplier, 3);
  EXPECT_EQ(config.residual_multiplier, 0.6);
  EXPECT_EQ(config.attention_scale, 0.1);
  EXPECT_EQ(config.logits_divisor, 4);
  EXPECT_EQ(parse("granite").attention_scale, 1);  // the class's default, not head_dim^-1/2
}

TEST(ConfigJson, RopeScalings) {
  const auto rope = [](const std::string& fields) { return parse("llama", fields).rope; };
  const RopeConfig yarn =
      rope(R"(,"rope_parameters":{"rope_type":"yarn","rope_theta":1e6,"factor":4.0,)"
           R"("original_max_position_embeddings":1024,"beta_fast":16,"mscale":0.7,)"
           R"("attention_factor":1.25})");
  EXPECT_EQ(yarn.scaling, Scaling::kYarn);
  EXPECT_EQ(yarn.theta, 1e6);
  EXPECT_EQ(yarn.factor, 4);
  EXPECT_EQ(yarn.original_max_positions, 1024);
  EXPECT_EQ(yarn.beta_fast, 16);
  EXPECT_EQ(yarn.beta_slow, 1);
  EXPECT_EQ(yarn.mscale, 0.7);
  EXPECT_EQ(yarn.attention_factor, 1.25);
  EXPECT_EQ(rope(R"(,"rope_scaling":{"type":"dynamic","factor":2.0})").scaling, Scaling::kNone);
  expect_refused(ErrorKind::kUnsupported, "dynamic", "llama",
                 R"(,"rope_scaling":{"type":"dynamic","factor":2.0,)"
                 R"("original_max_position_embeddings":2048})");
  expect_refused(ErrorKind::kUnsupported, "got rope type 'mrope'", "llama",
                 R"(,"rope_scaling":{"type":"mrope"})");
  expect_refused(ErrorKind::kCorruptFile, "no factor", "llama",
                 R"(,"rope_scaling":{"type":"linear"})");
  expect_refused(ErrorKind::kCorruptFile, "got factor 0", "llama",
                 R"(,"rope_scaling":{"type":"linear","factor":0})");
  expect_refused(ErrorKind::kCorruptFile, "got factor \"NaN\"", "llama",
                 R"(,"rope_scaling":{"type":"linear","factor":NaN})");
  expect_refused(ErrorKind::kCorruptFile, "low_freq_factor", "llama",
                 R"(,"rope_scaling":{"type":"llama3","factor":8,"low_freq_factor":4,)"
                 R"("high_freq_factor":4,"original_max_position_embeddings":64})");
  expect_refused(ErrorKind::kCorruptFile, "rope_theta", "llama", R"(,"rope_theta":"x")");
  expect_refused(ErrorKind::kCorruptFile, "got yarn's beta_fast 1 and beta_slow 32", "llama",
                 R"(,"rope_scaling":{"type":"yarn","factor":8,"beta_fast":1,"beta_slow":32})");
  expect_refused(ErrorKind::kCorruptFile, "got a rope factor and no rope_type", "llama",
                 R"(,"rope_scaling":{"factor":8})");
  expect_refused(ErrorKind::kCorruptFile, "got rope_theta 1 with yarn", "llama",
                 R"(,"rope_theta":1,"rope_scaling":{"type":"yarn","factor":8})");
}

TEST(ConfigJson, YarnMayKeepItsBandBetweenChannels) {
  const auto truncates = [](const std::string& field) {
    return parse("llama", R"(,"rope_scaling":{"type":"yarn","factor":8)" + field + "}")
        .rope.truncate;
  };
  EXPECT_TRUE(truncates(""));
  EXPECT_TRUE(truncates(R"(,"truncate":true)"));
  EXPECT_FALSE(truncates(R"(,"truncate":false)"));
  expect_refused(ErrorKind::kCorruptFile, "got truncate \"no\"", "llama",
                 R"(,"rope_scaling":{"type":"yarn","factor":8,"truncate":"no"})");
}

TEST(ConfigJson, BothSpellingsOfRopeMustAgree) {
  const std::string modern =
      R"(,"rope_parameters":{"rope_type":"yarn","rope_theta":1e6,"factor":4.0})";
  EXPECT_EQ(parse("llama", modern + R"(,"rope_scaling":{"type":"yarn","factor":4})").rope.factor,
            4);
  EXPECT_EQ(parse("llama", modern + R"(,"rope_scaling":null)").rope.factor, 4);
  for (const char* older : {R"({"type":"yarn","factor":8})", R"({"type":"linear","factor":4})"}) {
    expect_refused(ErrorKind::kCorruptFile, "got rope_parameters of type yarn with factor 4 and",
                   "llama", modern + R"(,"rope_scaling":)" + older);
  }
}

TEST(ConfigJson, RefusesSizesThatCannotBe) {
  const auto kind = ErrorKind::kCorruptFile;
  for (const std::string field :
       {"hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
        "vocab_size", "intermediate_size", "head_dim", "max_position_embeddings"}) {
    for (const std::string value :
         {"0", "-1", "1.5", "1e300", "9223372036854775807", "18446744073709551615", "\"8\"", "[]",
          "true", "NaN", "-Infinity"}) {
      expect_refused(kind, field, "llama", ",\"" + field + "\":" + value);
    }
  }
  expect_refused(kind, "need a whole ratio", "llama", R"(,"num_key_value_heads":3)");
  expect_refused(kind, "num_key_value_heads 8", "llama", R"(,"num_key_value_heads":8)");
  expect_refused(ErrorKind::kUnsupported, "head_dim 15", "llama", R"(,"head_dim":15)");
  expect_refused(kind, "rms_norm_eps", "llama", R"(,"rms_norm_eps":0)");
  expect_refused(kind, "tie_word_embeddings", "llama", R"(,"tie_word_embeddings":1)");
  expect_refused(kind, "eos_token_id", "llama", R"(,"eos_token_id":[1,-2])");
  expect_refused(kind, "embedding_multiplier", "granite", R"(,"embedding_multiplier":Infinity)");
  expect_error(kind, "got no hidden_size",
               [] { parse_config_json(R"({"model_type":"llama"})", "c"); });
  expect_error(kind, "got no model_type", [] { parse_config_json("{}", "c"); });
}

TEST(ConfigJson, AcceptsWholeNumbersSpelledAsDoubles) {
  EXPECT_EQ(parse("llama", R"(,"hidden_size":128.0)").hidden_size, 128);
  EXPECT_EQ(parse("llama", R"(,"head_dim":null)").head_dim, 16);
}

TEST(ConfigJson, TakesFp8Weights) {
  const auto block = [](const std::string& quantised) {
    return parse("llama", R"(,"quantization_config":)" + quantised).fp8_block;
  };
  using Block = std::array<int64_t, 2>;
  EXPECT_EQ(block(R"({"quant_method":"fp8","weight_block_size":[64,256]})"), (Block{64, 256}));
  EXPECT_EQ(block(R"({"quant_method":"modelopt","quant_algo":"FP8"})"), (Block{128, 128}));
  EXPECT_EQ(block(R"({"quant_method":"compressed-tensors","format":"float-quantized"})"),
            (Block{128, 128}));
}

TEST(ConfigJson, RefusesOtherFamiliesAndQuantisedWeights) {
  expect_refused(ErrorKind::kUnsupported, "got architecture 'bert'; need one of llama, mistral",
                 "bert", "");
  expect_refused(ErrorKind::kUnsupported, "quant_method 'awq'", "llama",
                 R"(,"quantization_config":{"quant_method":"awq"})");
  expect_refused(
      ErrorKind::kUnsupported, "quant_method 'compressed-tensors'", "llama",
      R"(,"quantization_config":{"quant_method":"compressed-tensors","format":"pack-quantized"})");
  expect_refused(ErrorKind::kCorruptFile, "weight_block_size [128]", "llama",
                 R"(,"quantization_config":{"quant_method":"fp8","weight_block_size":[128]})");
  const auto fp8 = [](const std::string& fields) {
    return R"(,"quantization_config":{"quant_method":"fp8",)" + fields + "}";
  };
  expect_refused(ErrorKind::kUnsupported, "got fmt 'e5m2' in quantization_config; need e4m3",
                 "llama", fp8(R"("fmt":"e5m2")"));
  expect_refused(ErrorKind::kUnsupported, "got activation_scheme 'odd'", "llama",
                 fp8(R"("activation_scheme":"odd")"));
  for (const char* scheme : {"static", "dynamic"}) {
    parse("llama", fp8(R"("fmt":"e4m3","activation_scheme":")" + std::string(scheme) + '"'));
  }
  expect_refused(ErrorKind::kCorruptFile, "got modules_to_not_convert \"lm_head\"; need a list",
                 "llama", fp8(R"("modules_to_not_convert":"lm_head")"));
  expect_refused(ErrorKind::kUnsupported, "quant_method 'unnamed'", "llama",
                 R"(,"quantization_config":{"fmt":"e4m3"})");
  expect_refused(ErrorKind::kUnsupported, "hidden_act 'relu'", "llama", R"(,"hidden_act":"relu")");
  EXPECT_EQ(parse("llama", R"(,"hidden_act":"gelu")").activation, Activation::kGeluErf);
}

TEST(ConfigJson, KeepsTheSparseAttentionObject) {
  EXPECT_EQ(parse("llama").sparse_attention_json, "");
  const std::string kept =
      parse("llama", R"(,"sparse_attention_config":{"config_groups":{"g":{"b":[1,"x"]}}})")
          .sparse_attention_json;
  EXPECT_EQ(kept, R"({"config_groups":{"g":{"b":[1,"x"]}}})");
}

TEST(ConfigJson, GenerationConfigAddsEndTokens) {
  ModelConfig config = parse("llama", R"(,"eos_token_id":2)");
  add_generation_config(config, R"({"eos_token_id":[2,7],"temperature":0.6})", "g");
  EXPECT_EQ(config.eos_tokens, (std::vector<int32_t>{2, 7}));
  add_generation_config(config, R"({"eos_token_id":9})", "g");
  EXPECT_EQ(config.eos_tokens, (std::vector<int32_t>{2, 7, 9}));
}

TEST(JsonText, ToleratesPythonsWordsOutsideStrings) {
  const auto object =
      parse_json_object(R"({"a":NaN,"b":[-Infinity,Infinity],"c":"NaN \" Infinity","d":1})", "x");
  EXPECT_EQ(object.at("a").as_string(), "NaN");
  EXPECT_EQ(object.at("b").as_array()[0].as_string(), "-Infinity");
  EXPECT_EQ(object.at("c").as_string(), "NaN \" Infinity");
  expect_error(ErrorKind::kCorruptFile, "valid JSON",
               [] { parse_json_object(R"({"a":NaNx})", "x"); });
}

TEST(JsonText, FindsKeysGivenTwiceAtAnyDepth) {
  const std::string text = R"({"a":{"b":1,"c":[{"k\u0041":1,"kA":2}]},"b":1})";
  expect_error(ErrorKind::kCorruptFile, "'kA' twice",
               [&] { parse_json_object(text, "x", DuplicateKeys::kReject); });
  EXPECT_EQ(parse_json_object(text, "x").size(), 2U);
  parse_json_object(R"({"a":{"a":{"a":1}},"b":{"a":1}})", "x", DuplicateKeys::kReject);
}

TEST(JsonText, BoundsDepth) {
  const std::string deep(100000, '[');
  expect_error(ErrorKind::kCorruptFile, "levels deep",
               [&] { parse_json_object("{\"a\":" + deep, "x"); });
}

}  // namespace
}  // namespace foveal::model

#include "base/config_fields.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <limits>
#include <random>
#include <string>

#include "base/error_testing.h"
#include "base/yaml_options.h"

namespace foveal {
namespace {

LlmConfig load(std::string_view text) { return llm_config_from_yaml(text, "c.yaml"); }

std::string error_of(std::string_view text) {
  return test::error_text(ErrorKind::kInvalidArgument, [&] { load(text); });
}

template <class T>
T only(const LlmConfig& config) {
  EXPECT_EQ(config.sparse_attention_config.size(), 1U);
  return std::get<T>(config.sparse_attention_config.at(0));
}

TEST(ConfigFields, EmptyMeansDefaults) {
  for (const char* text : {"", "# nothing\n", "{}", "sparse_attention_config:\n",
                           "sparse_attention_config: null\nkv_cache_config: {}\nthreads: null\n"}) {
    const LlmConfig config = load(text);
    EXPECT_FALSE(config.prefill_chunk) << text;  // the device's default
    EXPECT_EQ(config.kv_cache_config.dtype, "auto");
    EXPECT_TRUE(config.sparse_attention_config.empty());
  }
}

TEST(ConfigFields, EveryEngineField) {
  const LlmConfig config = load(R"(
model: some/folder
tokenizer: t.json
device: cuda:1
compute_dtype: f32
threads: 3
prefill_chunk: 256
max_num_tokens: 1e3
max_batch_size: 7
max_seq_len: 4096
enable_chunked_prefill: false
kv_cache_config:
  dtype: bfloat16
  enable_block_reuse: false
  max_tokens: 4096
  free_gpu_memory_fraction: 0.9
  tokens_per_block: 64
)");
  EXPECT_EQ(config.model, "some/folder");
  EXPECT_EQ(config.tokenizer, "t.json");
  EXPECT_EQ(config.device, "cuda:1");
  EXPECT_EQ(config.compute_dtype, "f32");
  EXPECT_EQ(config.threads, 3);
  EXPECT_EQ(config.prefill_chunk, 256);
  EXPECT_EQ(config.max_num_tokens, 1000);
  EXPECT_EQ(config.max_batch_size, 7);
  EXPECT_EQ(config.max_seq_len, 4096);
  EXPECT_EQ(config.kv_cache_config.dtype, "bf16");
  EXPECT_FALSE(config.kv_cache_config.enable_block_reuse);
  EXPECT_EQ(config.kv_cache_config.max_tokens, 4096);
  EXPECT_EQ(config.kv_cache_config.free_memory_fraction, 0.9);
  EXPECT_EQ(config.kv_cache_config.tokens_per_block, 64);
  validate(config);
}

TEST(ConfigFields, CudaFields) {
  const LlmConfig config = load(R"(
load_format: dummy
num_layers: 2
batch_invariant: true
use_fp8_context_fmha: true
sparsity_counters: false
kv_cache_config: {dtype: e4m3}
cuda_graph_config: {enable_padding: false, batch_sizes: [1, 2, 8]}
)");
  EXPECT_EQ(config.load_format, "dummy");
  EXPECT_EQ(config.num_layers, 2);
  EXPECT_TRUE(config.batch_invariant);
  EXPECT_TRUE(config.use_fp8_context_fmha);
  EXPECT_FALSE(config.sparsity_counters);
  EXPECT_EQ(config.kv_cache_config.dtype, "fp8");
  EXPECT_TRUE(config.cuda_graph_config.enable);
  EXPECT_FALSE(config.cuda_graph_config.enable_padding);
  EXPECT_EQ(config.cuda_graph_config.batch_sizes, (std::vector<int32_t>{1, 2, 8}));
  validate(config);
  for (const char* size : {"0", "-1", "65537", "1.5"}) {
    EXPECT_EQ(error_of(fmt::format("cuda_graph_config: {{batch_sizes: [1, {}]}}\n", size)),
              fmt::format("[c.yaml:1 cuda_graph_config.batch_sizes] got {}; need an integer from 1 "
                          "to 65536, or a list of them",
                          size));
  }
  EXPECT_EQ(error_of("cuda_graph_config: {batch_sizes: [4], max_batch_size: 4}\n"),
            "[c.yaml:1 cuda_graph_config.max_batch_size] got 4 beside batch_sizes; need one of "
            "them");
}

TEST(ConfigFields, SkipSoftmaxForms) {
  const auto both = only<SkipSoftmaxAttentionConfig>(load(
      "sparse_attention_config:\n  algorithm: skip_softmax\n  threshold_scale_factor: 1000.0\n"));
  EXPECT_EQ(both.threshold_scale_factor, (PhaseValue{1000.0, 1000.0}));
  EXPECT_EQ(both.target_sparsity, std::nullopt);
  const auto each = only<SkipSoftmaxAttentionConfig>(
      load("sparse_attention_config:\n  algorithm: skip_softmax\n"
           "  threshold_scale_factor: {prefill: 1000.0, decode: 500.0}\n"
           "  target_sparsity: {prefill: 0.5, decode: null}\n"));
  EXPECT_EQ(each.threshold_scale_factor, (PhaseValue{1000.0, 500.0}));
  EXPECT_EQ(each.target_sparsity, (PhaseValue{0.5, std::nullopt}));
  // 0 counts as set: it turns the method off even when the checkpoint has a target.
  const auto off = only<SkipSoftmaxAttentionConfig>(
      load("sparse_attention_config: {algorithm: skip_softmax, threshold_scale_factor: 0}"));
  EXPECT_EQ(off.threshold_scale_factor, (PhaseValue{0.0, 0.0}));
  const auto bare = only<SkipSoftmaxAttentionConfig>(
      load("sparse_attention_config: {algorithm: skip_softmax, target_sparsity: null}"));
  EXPECT_EQ(bare.target_sparsity, std::nullopt);
  const auto layers = only<SkipSoftmaxAttentionConfig>(
      load("sparse_attention_config:\n  algorithm: skip_softmax\n  threshold_scale_factor: 5\n"
           "  dense_layers: [0, 7]\n"));
  EXPECT_EQ(layers.dense_layers, (std::vector<int32_t>{0, 7}));
  EXPECT_EQ(layers.vote_precision, "exact");
  const auto votes = only<SkipSoftmaxAttentionConfig>(
      load("sparse_attention_config: {algorithm: skip_softmax, vote_precision: int8}"));
  EXPECT_EQ(votes.vote_precision, "int8");
}

TEST(ConfigFields, RocketAndDsaDefaultsAndNulls) {
  const auto rocket = only<RocketSparseAttentionConfig>(
      load("sparse_attention_config: {algorithm: rocket, topk: null, prompt_budget: 1024, "
           "topr: 0.5, kt_cache_dtype: bfloat16, seq_len_threshold: null}"));
  EXPECT_EQ(rocket.topk, 64);
  EXPECT_EQ(only<RocketSparseAttentionConfig>(
                load("sparse_attention_config: {algorithm: rocket, mode: multi_turn}"))
                .topk,
            128);
  EXPECT_EQ(only<RocketSparseAttentionConfig>(
                load("sparse_attention_config: {topk: 64, algorithm: rocket, mode: multi_turn}"))
                .topk,
            64);
  EXPECT_EQ(rocket.prompt_budget, 1024);
  EXPECT_EQ(std::get<double>(rocket.topr), 0.5);
  EXPECT_EQ(rocket.kt_cache_dtype, "bfloat16");
  EXPECT_EQ(rocket.window_size, 32);
  EXPECT_EQ(rocket.kernel_size, 63);
  EXPECT_EQ(rocket.page_size, 4);
  EXPECT_EQ(rocket.mode, "evict");
  EXPECT_EQ(rocket.candidates, "all");
  EXPECT_EQ(rocket.rank_size, std::nullopt);
  EXPECT_EQ(rocket.score, "auto");
  EXPECT_EQ(rocket.pool_group, "mean");
  EXPECT_EQ(rocket.force_recent, 1);
  EXPECT_EQ(rocket.sink, 0);
  EXPECT_TRUE(rocket.dense_layers.empty());
  const auto topr = [](std::string_view value) {
    return only<RocketSparseAttentionConfig>(
               load(fmt::format("sparse_attention_config: {{algorithm: rocket, topr: {}}}", value)))
        .topr;
  };
  EXPECT_EQ(std::get<int64_t>(topr("1")), 1) << "a channel";
  EXPECT_EQ(std::get<double>(topr("1.0")), 1.0) << "all of them";
  EXPECT_EQ(std::get<int64_t>(topr("64.0")), 64);
  EXPECT_EQ(std::get<int64_t>(topr("1000000")), 1000000) << "more than any head has: all of them";
  const auto dsa = only<DeepSeekSparseAttentionConfig>(
      load("sparse_attention_config: {algorithm: dsa, index_topk: 512, q_split_threshold: -1, "
           "use_cute_dsl_topk: false, indexer_k_dtype: fp8, use_self_sampling_topk: true, "
           "enable_heuristic_topk: true, index_share_for_mtp_iteration: null}"));
  EXPECT_EQ(dsa.index_topk, 512);
  EXPECT_EQ(dsa.q_split_threshold, -1);
  EXPECT_TRUE(dsa.enable_heuristic_topk);
  EXPECT_EQ(dsa.index_n_heads, std::nullopt);
}

TEST(ConfigFields, ListsCombineMethods) {
  const LlmConfig config = load(
      "sparse_attention_config:\n- algorithm: skip_softmax\n  threshold_scale_factor: "
      "{prefill: 5}\n- algorithm: rocket\n");
  ASSERT_EQ(config.sparse_attention_config.size(), 2U);
  EXPECT_EQ(algorithm_name(config.sparse_attention_config[0]), "skip_softmax");
  EXPECT_EQ(algorithm_name(config.sparse_attention_config[1]), "rocket");
}

struct Bad {
  std::string_view text;
  std::string_view message;
};

constexpr std::string_view kTop =
    "model, tokenizer, device, compute_dtype, load_format, num_layers, threads, prefill_chunk, "
    "max_num_tokens, max_batch_size, max_seq_len, batch_invariant, use_fp8_context_fmha, "
    "sparsity_counters, disable_overlap_scheduler, kv_cache_config, cuda_graph_config, "
    "sparse_attention_config, enable_chunked_prefill, scheduler_config";

TEST(ConfigFields, RefusesAtTheTop) {
  EXPECT_EQ(error_of("modell: x\n"),
            fmt::format("[c.yaml:1 modell] got unknown key; need one of {}", kTop));
  EXPECT_EQ(error_of("- 1\n"),
            fmt::format("[c.yaml:1] got a list; need a mapping with keys among {}", kTop));
  EXPECT_EQ(error_of("hello\n"),
            fmt::format("[c.yaml:1] got hello; need a mapping with keys among {}", kTop));
  constexpr Bad kCases[] = {
      {"threads: yes\n", "[c.yaml:1 threads] got yes; need an integer from 0 to 1024"},
      {"threads: 99999999999999999999\n",
       "[c.yaml:1 threads] got 99999999999999999999; need an integer from 0 to 1024"},
      {"threads: '4'\n", "[c.yaml:1 threads] got the text '4'; need an integer from 0 to 1024"},
      {"threads: [4]\n", "[c.yaml:1 threads] got a list; need an integer from 0 to 1024"},
      {"prefill_chunk: 0\n", "[c.yaml:1 prefill_chunk] got 0; need an integer from 1 to 1048576"},
      {"max_batch_size: 1.5\n",
       "[c.yaml:1 max_batch_size] got 1.5; need an integer from 1 to 65536"},
      {"device: gpu\n", "[c.yaml:1 device] got 'gpu'; need one of auto, cpu, cuda, cuda:N"},
      {"device: 'cuda:'\n", "[c.yaml:1 device] got 'cuda:'; need one of auto, cpu, cuda, cuda:N"},
      {"compute_dtype: fp64\n", "[c.yaml:1 compute_dtype] got 'fp64'; need one of auto, f32"},
      {"model: {a: 1}\n", "[c.yaml:1 model] got a mapping; need text"},
      {"\nbackend: tensorrt\n",
       "[c.yaml:2 backend] got tensorrt; need pytorch: Foveal has one backend of its own; see "
       "device"},
      {"kv_cache_config: 5\n",
       "[c.yaml:1 kv_cache_config] got 5; need a mapping with keys among dtype, "
       "enable_block_reuse, max_tokens, free_memory_fraction, tokens_per_block"},
      {"kv_cache_config:\n  dtyp: f32\n",
       "[c.yaml:2 kv_cache_config.dtyp] got unknown key; need one of dtype, enable_block_reuse, "
       "max_tokens, free_memory_fraction, tokens_per_block"},
      {"kv_cache_config:\n  dtype: fp4\n",
       "[c.yaml:2 kv_cache_config.dtype] got 'fp4'; need one of auto, bf16, f16, f32, fp8"},
      {"load_format: gguf\n", "[c.yaml:1 load_format] got 'gguf'; need one of auto, dummy"},
      {"kv_cache_config: {tokens_per_block: 33}\n",
       "[c.yaml:1 kv_cache_config.tokens_per_block] got 33; need one of 16, 32, 64, 128"},
      {"kv_cache_config: {enable_block_reuse: on}\n",
       "[c.yaml:1 kv_cache_config.enable_block_reuse] got on; need true or false"},
      {"kv_cache_config: {free_gpu_memory_fraction: 1.5}\n",
       "[c.yaml:1 kv_cache_config.free_gpu_memory_fraction] got 1.5; need a number above 0 and up "
       "to 1"},
      {"sparse_attention_config: []\n",
       "[c.yaml:1 sparse_attention_config] got an empty list; need an algorithm among "
       "skip_softmax, rocket, dsa (to switch a checkpoint's own method off: {algorithm: "
       "skip_softmax, threshold_scale_factor: 0})"},
      {"kv_cache_config: {max_tokens: -5}\n",
       "[c.yaml:1 kv_cache_config.max_tokens] got -5; need an integer from 1 to 2147483647"},
  };
  for (const Bad& bad : kCases) EXPECT_EQ(error_of(bad.text), bad.message);
}

TEST(ConfigFields, RefusesSparse) {
  constexpr Bad kCases[] = {
      {"sparse_attention_config: rocket\n",
       "[c.yaml:1 sparse_attention_config] got rocket; need a mapping with an algorithm among "
       "skip_softmax, rocket, dsa, or a list of such mappings"},
      {"sparse_attention_config:\n  topk: 3\n",
       "[c.yaml:2 sparse_attention_config.algorithm] got no algorithm; need one of skip_softmax, "
       "rocket, dsa"},
      {"sparse_attention_config:\n  algorithm: skipsoftmax\n",
       "[c.yaml:2 sparse_attention_config.algorithm] got skipsoftmax; need one of skip_softmax, "
       "rocket, dsa"},
      {"sparse_attention_config:\n  algorithm:\n",
       "[c.yaml:2 sparse_attention_config.algorithm] got null; need one of skip_softmax, "
       "rocket, dsa"},
      {"sparse_attention_config:\n  algorithm: skip_softmax\n  threshold: 3\n",
       "[c.yaml:3 sparse_attention_config.threshold] got unknown key; need one of algorithm, "
       "threshold_scale_factor, target_sparsity, dense_layers, vote_precision"},
      {"sparse_attention_config:\n  algorithm: skip_softmax\n  vote_precision: int4\n",
       "[c.yaml:3 sparse_attention_config.vote_precision] got 'int4'; need one of exact, int8"},
      {"sparse_attention_config:\n  algorithm: skip_softmax\n  threshold_scale_factor:\n    "
       "prefill: 1\n    prefil: 2\n",
       "[c.yaml:5 sparse_attention_config.threshold_scale_factor.prefil] got unknown key; need one "
       "of prefill, decode"},
      {"sparse_attention_config:\n  algorithm: skip_softmax\n  threshold_scale_factor: {}\n",
       "[c.yaml:3 sparse_attention_config.threshold_scale_factor] got no phase; need a number >= "
       "0, for both phases or one for each of prefill, decode"},
      {"sparse_attention_config:\n  algorithm: skip_softmax\n  threshold_scale_factor: [1, 2]\n",
       "[c.yaml:3 sparse_attention_config.threshold_scale_factor] got a list; need a number >= 0, "
       "for both phases or one for each of prefill, decode"},
      {"sparse_attention_config:\n  algorithm: skip_softmax\n  threshold_scale_factor: .nan\n",
       "[c.yaml:3 sparse_attention_config.threshold_scale_factor] got .nan; need a number >= 0, "
       "for both phases or one for each of prefill, decode"},
      {"sparse_attention_config:\n  algorithm: skip_softmax\n  threshold_scale_factor: {decode: "
       "-1}\n",
       "[c.yaml:3 sparse_attention_config.threshold_scale_factor.decode] got -1; need a number >= "
       "0, for both phases or one for each of prefill, decode"},
      {"sparse_attention_config:\n  algorithm: skip_softmax\n  target_sparsity: 1.01\n",
       "[c.yaml:3 sparse_attention_config.target_sparsity] got 1.01; need a number from 0 to 1, "
       "for both phases or one for each of prefill, decode"},
      {"sparse_attention_config:\n- algorithm: rocket\n- algorithm: rocket\n",
       "[c.yaml:3 sparse_attention_config.1] got rocket twice; need each algorithm once"},
      {"sparse_attention_config:\n- algorithm: skip_softmax\n- algorithm: rocket\n  topk: 0\n",
       "[c.yaml:4 sparse_attention_config.1.topk] got 0; need an integer from 1 to 2147483647"},
      {"sparse_attention_config:\n- null\n",
       "[c.yaml:2 sparse_attention_config.0] got null; need a mapping with an algorithm among "
       "skip_softmax, rocket, dsa, or a list of such mappings"},
  };
  for (const Bad& bad : kCases) EXPECT_EQ(error_of(bad.text), bad.message);
}

TEST(ConfigFields, RefusesRocketAndDsa) {
  const auto rocket = [](std::string_view field) {
    return error_of(fmt::format("sparse_attention_config:\n  algorithm: rocket\n  {}\n", field));
  };
  const std::string at = "[c.yaml:3 sparse_attention_config.";
  EXPECT_EQ(rocket("page_size: 3"), at + "page_size] got 3; need a power of two from 1 to 4096");
  EXPECT_EQ(rocket("page_size: 0"), at + "page_size] got 0; need a power of two from 1 to 4096");
  EXPECT_EQ(rocket("kernel_size: 64"),
            at + "kernel_size] got 64; need an odd integer from 1 to 65535");
  EXPECT_EQ(rocket("kernel_size: -1"),
            at + "kernel_size] got -1; need an odd integer from 1 to 65535");
  EXPECT_EQ(rocket("window_size: 2048"),
            at + "window_size] got 2048; need less than prompt_budget (2048)");
  EXPECT_EQ(rocket("window_size: 0"),
            at + "window_size] got 0; need an integer from 1 to 2147483647");
  // The window is a default here, so its line is that of the object.
  EXPECT_EQ(rocket("prompt_budget: 32"),
            "[c.yaml:2 sparse_attention_config.window_size] got 32; need less than prompt_budget "
            "(32)");
  EXPECT_EQ(rocket("kt_cache_dtype: fp8"),
            at + "kt_cache_dtype] got 'fp8'; need one of bfloat16, float8_e5m2");
  for (const char* topr : {"0", "-2", "1.5", "0.0", "nan", "many"}) {
    EXPECT_EQ(rocket(fmt::format("topr: {}", topr)),
              fmt::format("{}topr] got {}; need an integer from 1 to 2147483647 (channels) or a "
                          "ratio above 0 and "
                          "up to 1.0 (share of the channels)",
                          at, topr));
  }
  EXPECT_EQ(rocket("mode: keep"), at + "mode] got 'keep'; need one of evict, multi_turn");
  EXPECT_EQ(rocket("score: max"), at + "score] got 'max'; need one of auto, minmax, mean_std");
  EXPECT_EQ(rocket("candidates: some"), at + "candidates] got 'some'; need one of all, prompt");
  EXPECT_EQ(rocket("candidates: prompt"),
            at + "candidates] got prompt with mode evict; need mode multi_turn: what is evicted no "
                 "step can choose");
  EXPECT_EQ(rocket("mode: multi_turn\n  candidates: prompt"), "no error");
  // Only what a step will use is held against the rest.
  EXPECT_EQ(rocket("mode: multi_turn\n  window_size: 5000"), "no error");
  EXPECT_EQ(rocket("mode: multi_turn\n  window_size: 5000\n  candidates: prompt"),
            "[c.yaml:4 sparse_attention_config.window_size] got 5000; need less than prompt_budget "
            "(2048)");
  EXPECT_EQ(rocket("rank_size: 3"), at + "rank_size] got 3; need a power of two from 1 to 4096");
  EXPECT_EQ(rocket("rank_size: 8"), at + "rank_size] got 8; need at most page_size (4)");
  EXPECT_EQ(rocket("rank_size: 1"), "no error");
  EXPECT_EQ(rocket("pool_group: sum"), at + "pool_group] got 'sum'; need one of mean, max");
  EXPECT_EQ(rocket("force_recent: 0"),
            at + "force_recent] got 0; need an integer from 1 to 2147483647");
  EXPECT_EQ(rocket("force_recent: 65"),
            "[c.yaml:2 sparse_attention_config.topk] got 64; need at least sink (0) and "
            "force_recent (65)");
  EXPECT_EQ(rocket("sink: -1"), at + "sink] got -1; need an integer from 0 to 2147483647");
  EXPECT_EQ(rocket("sink: 504"),
            "[c.yaml:2 sparse_attention_config.window_size] got 32; need less than prompt_budget "
            "(2048) less sink (504) times page_size");
  EXPECT_EQ(rocket("dense_layers: [0, 1]"),
            at + "dense_layers] got 2 layers with mode evict; need mode multi_turn: a page holds "
                 "all layers, so what one layer keeps no other can give back");
  EXPECT_EQ(rocket("dense_layers: [-1]"),
            at + "dense_layers] got -1; need an integer from 0 to 65536, or a list of them");
  EXPECT_EQ(rocket("mode: multi_turn\n  dense_layers: [0, 1]"), "no error");
  EXPECT_EQ(rocket("topr: 1.0"), "no error");
  EXPECT_EQ(rocket("topr: 128"), "no error");
  EXPECT_EQ(rocket("seq_len_threshold: 5"),
            at + "seq_len_threshold] got 5; need no such key: rocket does not use it");
  const auto dsa = [](std::string_view field) {
    return error_of(fmt::format("sparse_attention_config:\n  algorithm: dsa\n  {}\n", field));
  };
  EXPECT_EQ(dsa("index_topk: 0"), at + "index_topk] got 0; need an integer from 1 to 2147483647");
  EXPECT_EQ(dsa("use_cute_dsl_topk: true"), "no error");
  EXPECT_EQ(dsa("indexer_reference: maybe"),
            at + "indexer_reference] got maybe; need true or false");
  EXPECT_EQ(dsa("indexer_k_dtype: fp4"),
            at + "indexer_k_dtype] got fp4; need fp8: fp4 needs a GPU generation that Foveal does "
                 "not serve");
}

TEST(ConfigFields, ValidateHoldsForStructsFilledByCode) {
  const auto error = [](const LlmConfig& config) -> std::string {
    try {
      validate(config);
    } catch (const Error& caught) {
      return caught.what();
    }
    return "no error";
  };
  LlmConfig config;
  EXPECT_EQ(error(config), "no error");
  config.sparse_attention_config = {SkipSoftmaxAttentionConfig{
      .threshold_scale_factor = PhaseValue{std::numeric_limits<double>::quiet_NaN(), {}}}};
  EXPECT_EQ(error(config),
            "[sparse_attention_config.threshold_scale_factor.prefill] got nan; need a number >= 0, "
            "for both phases or one for each of prefill, decode");
  config.sparse_attention_config = {RocketSparseAttentionConfig{.topr = 1.5}};
  EXPECT_NE(error(config), "no error");
  config.sparse_attention_config = {RocketSparseAttentionConfig{.window_size = 5000}};
  EXPECT_EQ(error(config),
            "[sparse_attention_config.window_size] got 5000; need less than prompt_budget (2048)");
  config.sparse_attention_config = {RocketSparseAttentionConfig{}, RocketSparseAttentionConfig{}};
  EXPECT_EQ(error(config),
            "[sparse_attention_config.1] got rocket twice; need each algorithm once");
  config = {};
  config.kv_cache_config.dtype = "bfloat16";
  EXPECT_EQ(error(config), "[kv_cache_config.dtype] got 'bfloat16'; need 'bf16'");
  config = {};
  config.prefill_chunk = -1;
  EXPECT_NE(error(config), "no error");
}

TEST(ConfigFields, AnswersTensorRtNames) {
  EXPECT_EQ(error_of("dtype: auto\ntensor_parallel_size: 1\ntrust_remote_code: false\n"
                     "load_format: auto\nscheduler_config: {capacity_scheduler_policy: "
                     "MAX_UTILIZATION}\nkv_cache_config: {host_cache_size: 0, onboard_blocks: "
                     "true, max_attention_window: null}\n"),
            "no error");
  // Defaults of TensorRT-LLM, as its examples and its dumps of a configuration spell them out.
  EXPECT_EQ(error_of("backend: pytorch\nattn_backend: TRTLLM\nsampler_type: auto\n"
                     "stream_interval: 1\nnum_postprocess_workers: 0\nprint_iter_log: false\n"
                     "enable_iter_perf_stats: false\nreturn_perf_metrics: true\n"
                     "enable_autotuner: true\nmoe_config: null\nreasoning_parser: null\n"),
            "no error");
  constexpr Bad kCases[] = {
      {"tensor_parallel_size: 2\n",
       "[c.yaml:1 tensor_parallel_size] got 2; need 1: Foveal runs on one device"},
      {"attn_backend: VANILLA\n",
       "[c.yaml:1 attn_backend] got VANILLA; need TRTLLM: sparse_attention_config chooses the "
       "method"},
      {"moe_config: {backend: CUTLASS}\n",
       "[c.yaml:1 moe_config] got a mapping; need no such key: Foveal has one way to run experts"},
      {"return_perf_metrics: 2\n",
       "[c.yaml:1 return_perf_metrics] got 2; need true: every output carries timings"},
      {"speculative_config: {a: 1}\n",
       "[c.yaml:1 speculative_config] got a mapping; need no such key: Foveal has no speculative "
       "decoding"},
      {"scheduler_config: {capacity_scheduler_policy: GUARANTEED_NO_EVICT}\n",
       "[c.yaml:1 scheduler_config.capacity_scheduler_policy] got GUARANTEED_NO_EVICT; need "
       "MAX_UTILIZATION: requests start as soon as their pages fit, and are read again if pages "
       "run out"},
      {"kv_cache_config: {host_cache_size: 1000}\n",
       "[c.yaml:1 kv_cache_config.host_cache_size] got 1000; need 0: Foveal keeps pages in one "
       "place"},
  };
  for (const Bad& bad : kCases) EXPECT_EQ(error_of(bad.text), bad.message);
}

TEST(ConfigFields, SparseOverride) {
  SparseOverride value;
  bind_options(describe(value), parse_yaml("off: true\nthreshold_scale_factor: {decode: 5}", "s"));
  EXPECT_TRUE(value.off);
  EXPECT_EQ(value.threshold_scale_factor, (PhaseValue{std::nullopt, 5.0}));
  EXPECT_THROW(bind_options(describe(value), parse_yaml("threshold_scale_factor: -1", "s")), Error);
}

TEST(ConfigFields, Sampling) {
  SamplingParams params;
  const OptionGroup group = describe(params);
  bind_options(group, parse_yaml("max_tokens: 9\nseed: 18446744073709551615\nstop: [a, 'b']\n"
                                 "stop_token_ids: 7\nbad_words: [[1, 2], 3]\n"
                                 "logit_bias: {15: -2.5}\nlogprobs: 0\n",
                                 "s"));
  EXPECT_EQ(params.max_tokens, 9);
  EXPECT_EQ(params.seed, UINT64_MAX);
  EXPECT_EQ(params.stop, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(params.stop_token_ids, (std::vector<int32_t>{7}));
  EXPECT_EQ(params.bad_words, (std::vector<std::vector<int32_t>>{{1, 2}, {3}}));
  EXPECT_EQ(params.logit_bias, (std::map<int32_t, double>{{15, -2.5}}));
  EXPECT_EQ(params.logprobs, 0);
  SamplingParams other;
  EXPECT_THROW(bind_options(describe(other), parse_yaml("min_tokens: 33", "s")), Error);
}

TEST(ConfigFields, GuidedIsOneOfFour) {
  SamplingParams params;
  bind_options(describe(params), parse_yaml("guided_choice: [yes, 'no']\n", "s"));
  EXPECT_EQ(params.guided->kind, GuidedDecoding::Kind::kChoice);
  EXPECT_EQ(params.guided->choices, (std::vector<std::string>{"yes", "no"}));
  for (const char* field : {"guided_json", "guided_regex", "guided_grammar"}) {
    SamplingParams one;
    bind_options(describe(one), parse_yaml(std::string(field) + ": '{}'\n", "s"));
    EXPECT_EQ(one.guided->text, "{}") << field;
    for (const char* wrong : {": {a: 1}", ": [a, b]", ": []"}) {
      SamplingParams bad;
      EXPECT_THROW(bind_options(describe(bad), parse_yaml(field + std::string(wrong), "s")), Error);
    }
  }
  SamplingParams both;
  EXPECT_THROW(
      bind_options(describe(both), parse_yaml("guided_regex: a\nguided_json: '{}'\n", "s")), Error);
}

// Mangled valid files must end in an Error or a valid configuration, never anything else.
TEST(ConfigFields, MutationsNeverEscape) {
  const std::string seed_text =
      "model: m\nkv_cache_config: {dtype: f32, max_tokens: 64}\nsparse_attention_config:\n"
      "- algorithm: rocket\n  topr: 0.5\n- algorithm: skip_softmax\n  threshold_scale_factor: "
      "{prefill: 1000.0, decode: 500.0}\n";
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE(seed);
  std::mt19937 rng(seed);
  int accepted = 0;
  for (int trial = 0; trial < 3000; ++trial) {
    std::string text = seed_text;
    for (unsigned edit = 0; edit < 1 + rng() % 3; ++edit) {
      const size_t at = rng() % text.size();
      if (rng() % 2 == 0) {
        text[at] = static_cast<char>(rng() % 128);
      } else {
        text.insert(at, 1, "-:{}[],&*!?|>'\"\n 09.~"[rng() % 22]);
      }
    }
    try {
      validate(load(text));
      ++accepted;
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find("; need "), std::string::npos) << text;
    }
  }
  EXPECT_GT(accepted, 0);
}

}  // namespace
}  // namespace foveal

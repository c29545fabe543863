#include "base/config_fields.h"

#include <fmt/format.h>

#include <iterator>

namespace foveal {
namespace {

constexpr double kMaxTokens = 2147483647;  // positions are 32-bit in kernels
constexpr double kMaxRows = 1048576;       // of one step: activations are allocated for them

// `auto`, `cpu`, `cuda` or `cuda:N`; whether the device exists is the device layer's question.
bool is_device(std::string_view text) {
  if (text == "auto" || text == "cpu" || text == "cuda") return true;
  if (text.substr(0, 5) != "cuda:") return false;
  const std::string_view index = text.substr(5);
  return !index.empty() && index.size() <= 3 &&
         index.find_first_not_of("0123456789") == std::string_view::npos;
}

std::vector<OptionField> engine_fields(LlmConfig& config) {
  return {
      {.name = "device",
       .target = &config.device,
       .help = "where to run",
       .text_rule = is_device,
       .rule_text = "one of auto, cpu, cuda, cuda:N"},
      {.name = "compute_dtype",
       .target = &config.compute_dtype,
       .help = "f32 multiplies in single precision; auto takes the fastest the CPU has",
       .choices = {"auto", "f32"},
       .synonyms = {{"float32", "f32"}}},
      {.name = "load_format",
       .target = &config.load_format,
       .help = "dummy makes random weights from a config.json alone, for benchmarks",
       .choices = {"auto", "dummy"}},
      {.name = "num_layers",
       .target = &config.num_layers,
       .help = "with dummy weights: so many layers instead of the config's",
       .range = {.min = 1, .max = 4096}},
      {.name = "threads",
       .target = &config.threads,
       .help = "worker threads; 0: one a core",
       .range = {.min = 0, .max = 1024}},
      {.name = "prefill_chunk",
       .target = &config.prefill_chunk,
       .help = "prompt tokens of one request in one step; absent: 512, on CUDA 8192",
       .range = {.min = 1, .max = kMaxRows}},
      {.name = "max_num_tokens",
       .target = &config.max_num_tokens,
       .help = "tokens in one step, all requests together; absent: 2048, on CUDA 8192",
       .range = {.min = 1, .max = kMaxRows}},
      {.name = "max_batch_size",
       .target = &config.max_batch_size,
       .help = "requests running at once",
       .range = {.min = 1, .max = 65536}},
      {.name = "max_seq_len",
       .target = &config.max_seq_len,
       .help = "longest prompt plus answer in tokens; absent: the model's context",
       .range = {.min = 1, .max = kMaxTokens}},
      {.name = "batch_invariant",
       .target = &config.batch_invariant,
       .help = "on CUDA, results that do not depend on what shares a step (always so on a CPU)"},
      {.name = "use_fp8_context_fmha",
       .target = &config.use_fp8_context_fmha,
       .help = "on CUDA with an fp8 cache, prefill attention multiplies in e4m3 throughout"},
      {.name = "sparsity_counters",
       .target = &config.sparsity_counters,
       .help = "count what attention leaves out, for every request"},
      {.name = "disable_overlap_scheduler",
       .target = &config.disable_overlap_scheduler,
       .help = "on CUDA, launch a step only when the host has the tokens of the one before"},
  };
}

// How the next token is chosen.
std::vector<OptionField> choice_fields(SamplingParams& params) {
  const Range penalty{.min = -2, .max = 2};
  return {
      {.name = "temperature",
       .target = &params.temperature,
       .help = "0: greedy",
       .range = {.min = 0}},
      {.name = "top_k",
       .target = &params.top_k,
       .help = "sample among so many best tokens; 0: off",
       .range = {.min = 0, .max = kMaxTokens}},
      {.name = "top_p",
       .target = &params.top_p,
       .help = "sample among the best tokens of this total probability",
       .range = {.min = 0, .max = 1, .above_min = true}},
      {.name = "min_p",
       .target = &params.min_p,
       .help = "drop tokens below this share of the best one's probability",
       .range = {.min = 0, .max = 1}},
      {.name = "repetition_penalty",
       .target = &params.repetition_penalty,
       .help = "above 1: makes tokens that occurred less likely",
       .range = {.min = 0, .above_min = true}},
      {.name = "presence_penalty",
       .target = &params.presence_penalty,
       .help = "subtracted once from generated tokens",
       .range = penalty},
      {.name = "frequency_penalty",
       .target = &params.frequency_penalty,
       .help = "subtracted for each occurrence",
       .range = penalty},
  };
}

}  // namespace

OptionGroup describe(KvCacheConfig& config) {
  OptionGroup group{
      .fields = {{.name = "dtype",
                  .target = &config.dtype,
                  .help = "type of cached keys and values",
                  .choices = {"auto", "bf16", "f16", "f32", "fp8"},
                  .synonyms = {{"bfloat16", "bf16"},
                               {"float16", "f16"},
                               {"float32", "f32"},
                               {"e4m3", "fp8"},
                               {"float8_e4m3fn", "fp8"}}},
                 {.name = "enable_block_reuse",
                  .target = &config.enable_block_reuse,
                  .help = "share the pages of equal prompt prefixes"},
                 {.name = "max_tokens",
                  .target = &config.max_tokens,
                  .help = "cache size in tokens; absent: from free memory",
                  .range = {.min = 1, .max = kMaxTokens}},
                 {.name = "free_memory_fraction",
                  .target = &config.free_memory_fraction,
                  .help = "of the memory free after loading; beside max_tokens the smaller counts; "
                          "without either 0.5, on CUDA 0.9",
                  .range = {.min = 0, .max = 1, .above_min = true},
                  .also = {"free_gpu_memory_fraction"}},
                 {.name = "tokens_per_block",
                  .target = &config.tokens_per_block,
                  .help = "tokens of a page",
                  .number_rule =
                      [](double value) {
                        return value == 16 || value == 32 || value == 64 || value == 128;
                      },
                  .rule_text = "one of 16, 32, 64, 128"}},
      .flag_prefix = "kv"};
  for (OptionField& field : trtllm_kv_fields()) group.fields.push_back(std::move(field));
  return group;
}

OptionGroup describe(CudaGraphConfig& config) {
  OptionGroup group{.fields = {{.name = "enable",
                                .target = &config.enable,
                                .help = "record and replay steps that only decode"},
                               {.name = "enable_padding",
                                .target = &config.enable_padding,
                                .help = "fill a step up to the next recorded size"},
                               {.name = "batch_sizes",
                                .target = &config.batch_sizes,
                                .help = "sizes to record; absent: 1, 2, 4, 8, 16, 24, ...",
                                .range = {.min = 1, .max = 65536}},
                               {.name = "max_batch_size",
                                .target = &config.max_batch_size,
                                .help = "largest size to record; 0: the engine's max_batch_size",
                                .range = {.min = 0, .max = 65536}}},
                    .flag_prefix = "cuda-graph"};
  group.check = [&config]() -> std::optional<Complaint> {
    if (config.batch_sizes.empty() || config.max_batch_size == 0) return std::nullopt;
    return Complaint{"max_batch_size", fmt::format("got {} beside batch_sizes; need one of them",
                                                   config.max_batch_size)};
  };
  return group;
}

OptionGroup describe(LlmConfig& config) {
  OptionGroup group;
  group.fields = {{.name = "model",
                   .target = &config.model,
                   .help = "a .gguf file or a folder with config.json",
                   .short_flag = 'm',
                   .required = true},
                  {.name = "tokenizer",
                   .target = &config.tokenizer,
                   .help = "a tokenizer.json or its folder; absent: the model's own"}};
  for (OptionField& field : engine_fields(config)) group.fields.push_back(std::move(field));
  group.fields.push_back({.name = "kv_cache_config",
                          .target = std::make_shared<OptionGroup>(describe(config.kv_cache_config)),
                          .help = "the key-value cache"});
  group.fields.push_back(
      {.name = "cuda_graph_config",
       .target = std::make_shared<OptionGroup>(describe(config.cuda_graph_config)),
       .help = "recorded steps on CUDA"});
  group.fields.push_back(describe_sparse_field(config.sparse_attention_config));
  group.fields.push_back(
      {.name = "enable_chunked_prefill",
       // Results do not depend on chunks, so a file that says false gets what it wants.
       .target = FixedOption{"true", "Foveal always prefills in chunks; set prefill_chunk",
                             /*listed=*/true, "false"},
       .help = ""});
  for (OptionField& field : trtllm_engine_fields()) group.fields.push_back(std::move(field));
  return group;
}

OptionGroup describe(SamplingParams& params) {
  OptionGroup group;
  group.fields = choice_fields(params);
  std::vector<OptionField> others = {
      {.name = "max_tokens",
       .target = &params.max_tokens,
       .help = "most tokens to generate; 0: only read the prompt",
       .range = {.min = 0, .max = kMaxTokens}},
      {.name = "n",
       .target = &params.n,
       .help = "completions of the prompt; the i-th draws with seed + i",
       .range = {.min = 1, .max = 128}},
      {.name = "seed", .target = &params.seed, .help = "absent: a fresh one for each request"},
      {.name = "logprobs",
       .target = &params.logprobs,
       .help = "alternatives to report with each token; 0: only its own",
       .range = {.min = 0, .max = 20}},
      {.name = "prompt_logprobs",
       .target = &params.prompt_logprobs,
       .help = "the same for prompt tokens",
       .range = {.min = 0, .max = 20}},
      {.name = "stop", .target = &params.stop, .help = "end before this text; may be repeated"},
      {.name = "stop_token_ids",
       .target = &params.stop_token_ids,
       .help = "end at these tokens; may be repeated"},
      {.name = "include_stop_str_in_output",
       .target = &params.include_stop_str_in_output,
       .help = "keep the stop text"},
      {.name = "ignore_eos",
       .target = &params.ignore_eos,
       .help = "go on after the model's end token"},
      {.name = "min_tokens",
       .target = &params.min_tokens,
       .help = "before these, neither end tokens nor stops end the text",
       .range = {.min = 0, .max = kMaxTokens}},
      {.name = "bad_words",
       .target = &params.bad_words,
       .help = "token sequences that must not appear: [[5, 7], [9]]"},
      {.name = "bad", .target = &params.bad, .help = "text that must not appear; may be repeated"},
      {.name = "logit_bias",
       .target = &params.logit_bias,
       .help = "added to logits: {15: -2.5}",
       .range = {.min = -100, .max = 100}},
  };
  for (OptionField& field : describe_guided_fields(params.guided)) {
    others.push_back(std::move(field));
  }
  group.fields.insert(group.fields.begin(), std::make_move_iterator(others.begin()),
                      std::make_move_iterator(others.end()));
  group.check = [&params]() -> std::optional<Complaint> {
    if (params.min_tokens <= params.max_tokens) return std::nullopt;
    return Complaint{"min_tokens", fmt::format("got {}; need at most max_tokens ({})",
                                               params.min_tokens, params.max_tokens)};
  };
  return group;
}

OptionGroup describe(SparseOverride& value) {
  return {
      .fields = {{.name = "off",
                  .target = &value.off,
                  .help = "dense attention, whatever the engine's settings"},
                 {.name = "threshold_scale_factor",
                  .target = &value.threshold_scale_factor,
                  .help = "other Skip Softmax factors; a phase that is absent keeps the engine's",
                  .range = {.min = 0}}}};
}

void validate(const LlmConfig& config) {
  LlmConfig copy = config;  // a table points at what may be written; validation writes nothing
  validate_options(describe(copy));
}

}  // namespace foveal

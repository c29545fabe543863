// Names that scripts and files written for TensorRT-LLM carry. None of them chooses anything here:
// what Foveal does anyway is accepted, the rest is refused with a sentence, nothing is ignored.
#include "base/config_fields.h"

namespace foveal {
namespace {

OptionField fixed(std::string_view name, std::string_view accepts, std::string_view why) {
  return {.name = name, .target = FixedOption{accepts, why, /*listed=*/false}, .help = ""};
}

/// A switch that neither way changes what a user sees.
OptionField either(std::string_view name, std::string_view why) {
  return {.name = name, .target = FixedOption{"true", why, /*listed=*/false, "false"}, .help = ""};
}

constexpr std::string_view kOneDevice = "Foveal runs on one device";
constexpr std::string_view kNoOffload = "Foveal keeps pages in one place";
constexpr std::string_view kNoBeams = "Foveal has no beam search";
constexpr std::string_view kNoDrafts = "Foveal has no speculative decoding";
constexpr std::string_view kNoLora = "Foveal has no LoRA";
constexpr std::string_view kNoEncoder = "Foveal has no encoder-decoder models";
constexpr std::string_view kWholePages = "prompts share whole pages only, by themselves";
constexpr std::string_view kAlwaysTimed = "every output carries timings";
constexpr std::string_view kNoSpecial = "text never holds special tokens";
constexpr std::string_view kWholeContext = "every layer keeps what its own window needs";

}  // namespace

std::vector<OptionField> trtllm_engine_fields() {
  return {
      fixed("dtype", "auto", "weights keep the checkpoint's type; see compute_dtype"),
      fixed("tensor_parallel_size", "1", kOneDevice),
      fixed("pipeline_parallel_size", "1", kOneDevice),
      fixed("context_parallel_size", "1", kOneDevice),
      fixed("moe_expert_parallel_size", "1", kOneDevice),
      fixed("moe_tensor_parallel_size", "1", kOneDevice),
      fixed("enable_attention_dp", "false", kOneDevice),
      fixed("trust_remote_code", "false", "Foveal runs no code from a checkpoint"),
      fixed("tokenizer_mode", "auto", "there is one tokenizer implementation"),
      fixed("custom_tokenizer", "", "there is one tokenizer implementation; see tokenizer"),
      fixed("skip_tokenizer_init", "false", "a model without a tokenizer loads without one"),
      fixed("revision", "", "models are local files"),
      fixed("model_kwargs", "", "hyperparameters are the checkpoint's"),
      fixed("max_input_len", "", "see max_seq_len"),
      fixed("max_beam_width", "1", kNoBeams),
      fixed("backend", "pytorch", "Foveal has one backend of its own; see device"),
      fixed("attn_backend", "TRTLLM", "sparse_attention_config chooses the method"),
      fixed("guided_decoding_backend", "llguidance", "it is the one in use"),
      fixed("speculative_config", "", kNoDrafts),
      fixed("enable_lora", "false", kNoLora),
      fixed("lora_config", "", kNoLora),
      fixed("moe_config", "", "Foveal has one way to run experts"),
      fixed("torch_compile_config", "", "Foveal compiles nothing when it starts"),
      fixed("env_overrides", "", "Foveal takes no settings from the environment"),
      fixed("reasoning_parser", "", "answers hold everything the model says"),
      fixed("sampler_type", "auto", "there is one sampler"),
      fixed("stream_interval", "1", "every token is sent as soon as it is there"),
      fixed("num_postprocess_workers", "0", "texts are made where requests are answered"),
      fixed("print_iter_log", "false", "see log_level"),
      either("enable_iter_perf_stats", "statistics are always kept"),
      either("return_perf_metrics", kAlwaysTimed),
      either("enable_autotuner", "Foveal chooses by itself how products run"),
      {.name = "scheduler_config",
       .target = std::make_shared<OptionGroup>(describe_scheduler()),
       .help = "TensorRT-LLM's scheduler"},
  };
}

std::vector<OptionField> trtllm_kv_fields() {
  return {
      fixed("max_attention_window", "", kWholeContext),
      fixed("sink_token_length", "", kWholeContext),
      fixed("host_cache_size", "0", kNoOffload),
      fixed("onboard_blocks", "true", kNoOffload),
      fixed("secondary_offload_min_priority", "", kNoOffload),
      fixed("cross_kv_cache_fraction", "", kNoEncoder),
      fixed("event_buffer_max_size", "0", "Foveal reports no cache events"),
      fixed("enable_partial_reuse", "true", kWholePages),
      fixed("copy_on_partial_reuse", "true", kWholePages),
      fixed("use_uvm", "false", kNoOffload),
      fixed("max_gpu_total_bytes", "0", "see max_tokens"),
      fixed("use_kv_cache_manager_v2", "false", "it names a part of TensorRT-LLM"),
  };
}

std::vector<OptionField> trtllm_sampling_fields() {
  constexpr std::string_view kNoDecay = "Foveal's top_p stays the same";
  return {
      fixed("use_beam_search", "false", kNoBeams),
      fixed("beam_width_array", "", kNoBeams),
      fixed("beam_search_diversity_rate", "", kNoBeams),
      fixed("length_penalty", "", kNoBeams),
      fixed("early_stopping", "", kNoBeams),
      fixed("top_p_min", "", kNoDecay),
      fixed("top_p_reset_ids", "", kNoDecay),
      fixed("top_p_decay", "", kNoDecay),
      fixed("no_repeat_ngram_size", "", "see repetition_penalty"),
      fixed("embedding_bias", "", "see logit_bias"),
      fixed("logits_processor", "", "no Python runs between tokens; see guided_decoding"),
      fixed("apply_batched_logits_processor", "false", "no Python runs between tokens"),
      fixed("pad_id", "", "Foveal pads nothing"),
      fixed("return_context_logits", "false", "see prompt_logprobs"),
      fixed("return_generation_logits", "false", "see logprobs"),
      fixed("return_encoder_output", "false", kNoEncoder),
      fixed("exclude_input_from_output", "true", "outputs never hold the prompt"),
      fixed("return_perf_metrics", "false", kAlwaysTimed),
      fixed("skip_special_tokens", "true", kNoSpecial),
      fixed("spaces_between_special_tokens", "true", kNoSpecial),
      fixed("lookahead_config", "", kNoDrafts),
  };
}

OptionGroup describe_scheduler() {
  constexpr std::string_view kPolicy =
      "requests start as soon as their pages fit, and are read again if pages run out";
  return {.fields = {
              {.name = "capacity_scheduler_policy",
               .target = FixedOption{"MAX_UTILIZATION", kPolicy},
               .help = ""},
              {.name = "context_chunking_policy",
               .target = FixedOption{"FIRST_COME_FIRST_SERVED", "prompts are read in their order"},
               .help = ""},
              fixed("dynamic_batch_config", "", "see max_batch_size and max_num_tokens")}};
}

}  // namespace foveal

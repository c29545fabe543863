#include <memory>
#include <optional>

#include "base/check.h"
#include "base/config_fields.h"
#include "base/log.h"
#include "cli_options.h"
#include "commands.h"
#include "foveal/llm.h"
#include "input.h"
#include "model/safetensors_writer.h"
#include "output.h"
#include "progress_bars.h"
#include "report.h"

namespace foveal::tools {
namespace {

struct RunOptions {
  std::string file, prompt, token_ids, stats, logits, trace, trace_filter;
  std::optional<int64_t> logits_last;
  bool chat = false;
  bool json = false;
};

OptionGroup describe(RunOptions& options) {
  return {
      .fields = {
          {.name = "file",
           .target = &options.file,
           .help = "a text to put first; - is standard input"},
          {.name = "prompt",
           .target = &options.prompt,
           .help = "text after it, behind a blank line",
           .short_flag = 'p'},
          {.name = "token_ids",
           .target = &options.token_ids,
           .help = "the prompt as ids instead: \"1,2,3\", or @FILE with a JSON list"},
          {.name = "chat",
           .target = &options.chat,
           .help = "ask as a user's message through the model's chat template"},
          {.name = "json",
           .target = &options.json,
           .help = "print one JSON object instead of streaming the text"},
          {.name = "stats",
           .target = &options.stats,
           .help = "write that object to a file as well"},
          {.name = "logits",
           .target = &options.logits,
           .help = "write float32 logits [positions, vocab] of the prompt to a safetensors file"},
          {.name = "logits_last",
           .target = &options.logits_last,
           .help = "only of the last so many prompt positions",
           .range = {.min = 1}},
          {.name = "trace",
           .target = &options.trace,
           .help = "write intermediate tensors (hidden.N, q.N, k.N, v.N, attention.N and what the "
                   "method "
                   "selected, such as skip_softmax.prefill.N) to a safetensors file"},
          {.name = "trace_filter",
           .target = &options.trace_filter,
           .help = "regular expression that their names must contain; absent: all"}}};
}

std::string prompt_text(const RunOptions& options) {
  std::string text;
  if (!options.file.empty()) text = read_input(options.file);
  if (!options.prompt.empty()) {
    if (!options.file.empty()) text += text.ends_with('\n') ? "\n" : "\n\n";
    text += options.prompt;
  }
  FOVEAL_CHECK(!text.empty(), ErrorKind::kInvalidArgument, "prompt",
               "got an empty prompt; need --prompt, --file or --token-ids with something in it");
  return text;
}

// Read once: standard input and pipes cannot be read again.
Prompt read_prompt(const RunOptions& options) {
  if (options.token_ids.empty()) return {.text = prompt_text(options)};
  FOVEAL_CHECK(options.file.empty() && options.prompt.empty() && !options.chat,
               ErrorKind::kInvalidArgument, "token-ids",
               "got text as well; need either --token-ids or --file, --prompt and --chat");
  return {.token_ids = parse_token_ids(options.token_ids)};
}

std::string user_message(const std::string& text) {
  return "[{\"role\": \"user\", \"content\": " + json_string(text) + "}]";
}

void check_options(const RunOptions& options, const LlmConfig& config,
                   const std::string& config_file) {
  const std::string ids = options.token_ids.starts_with('@') ? options.token_ids.substr(1) : "";
  const OutputFile outputs[] = {
      {"stats", options.stats}, {"logits", options.logits}, {"trace", options.trace}};
  const std::string inputs[] = {config.model, config.tokenizer, options.file, ids, config_file};
  tools::check_outputs(outputs, inputs);
  FOVEAL_CHECK(!options.logits_last || !options.logits.empty(), ErrorKind::kInvalidArgument,
               "logits-last", "got {} without --logits; need both", *options.logits_last);
  FOVEAL_CHECK(options.trace_filter.empty() || !options.trace.empty(), ErrorKind::kInvalidArgument,
               "trace-filter", "got '{}' without --trace; need both", options.trace_filter);
}

void write_tensors(std::string_view flag, const std::string& path,
                   std::span<const TracedTensor> tensors) {
  std::vector<model::NamedTensor> named;
  for (const TracedTensor& tensor : tensors) {
    named.push_back({.name = tensor.name,
                     .dtype = DType::kF32,
                     .shape = {tensor.rows, tensor.cols},
                     .data = std::as_bytes(std::span(tensor.data))});
  }
  model::write_safetensors(path, named, flag);
}

// Streams to standard output unless the result is printed as JSON at the end.
RequestOutput generate(LLM& llm, const Prompt& prompt, const SamplingParams& sampling,
                       const RequestOptions& request, bool stream) {
  show_prefill(llm);
  Generation generation = llm.submit(prompt, sampling, request);
  bool printed = false;
  while (const std::optional<std::string> piece = generation.next()) {
    if (!stream || piece->empty()) continue;
    write_out(*piece);
    printed = true;
  }
  RequestOutput output = generation.result();
  if (printed) write_out("\n");
  return output;
}

}  // namespace

int run_main(std::span<const std::string> args) {
  RunOptions own;
  LlmConfig config;
  SamplingParams sampling;
  Command command("run", "Complete a prompt, or answer it with --chat.");
  command.options("Run", describe(own));
  command.llm_config(config);
  command.options("Sampling", describe_single(sampling));
  if (!command.parse(args)) return 0;

  // What can be refused without loading anything is refused first.
  check_options(own, config, command.given("--config"));
  FOVEAL_CHECK((!sampling.logprobs && !sampling.prompt_logprobs) || own.json || !own.stats.empty(),
               ErrorKind::kInvalidArgument, "logprobs",
               "got it without a place to show them; need --json or --stats FILE as well");
  const std::string filter = own.trace_filter.empty() ? ".*" : own.trace_filter;
  const RequestOptions request{
      .logits = !own.logits.empty(),
      .logits_last = own.logits_last,
      .trace_filter = own.trace.empty() ? std::nullopt : std::optional(filter)};
  Prompt prompt = read_prompt(own);
  LLM llm(config, loading_bar());
  log_info("{}: {} in {:.0f} ms", config.model, llm.method(), llm.load_ms());
  if (own.chat) prompt = {.token_ids = llm.chat_token_ids(user_message(prompt.text))};
  const RequestOutput output = generate(llm, prompt, sampling, request, /*stream=*/!own.json);
  if (output.logits) write_tensors("logits", own.logits, std::span(&*output.logits, 1));
  if (!own.trace.empty()) {
    FOVEAL_CHECK(!output.trace.empty(), ErrorKind::kInvalidArgument, "trace-filter",
                 "got '{}', which no tensor's name contains; need one of hidden.N, q.N, k.N, v.N, "
                 "attention.N, or the method's own",
                 filter);
    write_tensors("trace", own.trace, output.trace);
  }
  const std::string report = run_json(llm, output) + "\n";
  write_file("stats", own.stats, report);
  if (own.json) write_out(report);
  log_info("{}", run_summary(output));
  return 0;
}

}  // namespace foveal::tools

#include <algorithm>

#include "base/check.h"
#include "base/config_fields.h"
#include "base/log.h"
#include "base/progress.h"
#include "bench/bench.h"
#include "bench/report.h"
#include "cli_options.h"
#include "output.h"
#include "progress_bars.h"
#include "trtllm_flags.h"

namespace foveal::bench {
namespace {

struct BenchOptions {
  std::string dataset, report_json, request_json, request_csv, output_json;
  int64_t num_requests = 0;
  int64_t warmup = 2;
  int64_t concurrency = -1;
  int64_t eos_id = -1;
  bool streaming = true;
  tools::TrtllmFlags trtllm;
  tools::TrtllmBenchFlags trtllm_bench;
};

OptionGroup describe(BenchOptions& options) {
  return {
      .fields = {
          {.name = "dataset",
           .target = &options.dataset,
           .help = "a .jsonl file: {\"task_id\", \"prompt\" or \"input_ids\", \"output_tokens\"} a "
                   "line (foveal bench prepare-dataset)",
           .required = true},
          {.name = "report_json", .target = &options.report_json, .help = "file for the report"},
          {.name = "request_json",
           .target = &options.request_json,
           .help = "file for what was measured of each request"},
          {.name = "request_csv", .target = &options.request_csv, .help = "the same with commas"},
          {.name = "output_json",
           .target = &options.output_json,
           .help = "file for the tokens of each request"},
          {.name = "num_requests",
           .target = &options.num_requests,
           .help = "the first so many of the data set; 0: all",
           .range = {.min = 0}},
          {.name = "warmup",
           .target = &options.warmup,
           .help = "requests before the measurement, which share no pages with it",
           .range = {.min = 0}},
          {.name = "concurrency",
           .target = &options.concurrency,
           .help = "requests in flight; -1: all at once",
           .range = {.min = -1, .max = 1024}},
          {.name = "eos_id",
           .target = &options.eos_id,
           .help = "a token that ends an answer before output_tokens; -1: none does",
           .range = {.min = -1}},
          {.name = "streaming",
           .target = &options.streaming,
           .help = "report time to first token and between tokens"}}};
}

void check_outputs(const BenchOptions& options, const LlmConfig& config,
                   const std::string& config_file) {
  const tools::OutputFile outputs[] = {{"report-json", options.report_json},
                                       {"request-json", options.request_json},
                                       {"request-csv", options.request_csv},
                                       {"output-json", options.output_json}};
  const std::string inputs[] = {config.model, config.tokenizer, options.dataset, config_file};
  tools::check_outputs(outputs, inputs);
}

LoadResult measured(LLM& llm, const BenchOptions& options, Dataset& dataset) {
  const auto requests = first(dataset.requests, options.num_requests);
  LoadOptions load{.concurrency = options.concurrency};
  if (options.eos_id >= 0) load.end_id = static_cast<int32_t>(options.eos_id);
  if (options.warmup > 0) {
    // Under a salt of their own: the measurement must not find their pages.
    LoadOptions warm = load;
    warm.cache_salt = "warm-up";
    run_load(llm, first(requests, options.warmup), warm, [](int64_t) {});
  }
  Progress bar("requests", std::ssize(requests));
  LoadResult result = run_load(llm, requests, load, [&](int64_t done) { bar.update(done); });
  for (Failure& failure : dataset.failures) result.failures.push_back(std::move(failure));
  return result;
}

int run(const char* command_name, const char* summary, BenchOptions own, LlmConfig config,
        std::span<const std::string> args) {
  tools::Command command(std::string("bench ") + command_name, summary);
  command.options("Bench", describe(own));
  command.options("As for trtllm-bench", tools::describe(own.trtllm));
  command.options("As for trtllm-bench alone", tools::describe(own.trtllm_bench));
  command.llm_config(config);
  if (!command.parse(args)) return 0;
  if (!own.trtllm_bench.model_path.empty()) config.model = own.trtllm_bench.model_path;
  check_outputs(own, config, command.given("--config"));
  FOVEAL_CHECK(own.concurrency != 0, ErrorKind::kInvalidArgument, "concurrency",
               "got 0; need -1 or a number from 1");
  Dataset dataset = read_dataset(own.dataset);
  LLM llm(config, tools::loading_bar());
  log_info("{}: {}", config.model, llm.info().attention);
  const LoadResult load = measured(llm, own, dataset);
  const ReportOptions report{.dataset = own.dataset,
                             .config = config,
                             .command = command_name,
                             .streaming = own.streaming};
  const tools::OutputText files[] = {
      {"report-json", own.report_json, report_json(llm, load, report)},
      {"request-json", own.request_json, requests_json(load)},
      {"request-csv", own.request_csv, requests_csv(load)},
      {"output-json", own.output_json, own.output_json.empty() ? "" : outputs_json(llm, load)}};
  tools::write_results(files, report_text(llm, load));
  measure::warn_of(load.failures, own.report_json.empty() ? "--report_json" : own.report_json);
  return load.requests.empty() ? 1 : 0;
}

}  // namespace

int throughput_main(std::span<const std::string> args) {
  return run("throughput", "Many requests at once: what the engine gets done in a second.", {}, {},
             args);
}

int latency_main(std::span<const std::string> args) {
  LlmConfig config;
  config.max_batch_size = 1;
  return run("latency", "One request after the other: how long an answer takes.",
             {.concurrency = 1}, config, args);
}

}  // namespace foveal::bench

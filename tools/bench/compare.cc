#include "bench/compare.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "base/config_fields.h"
#include "base/log.h"
#include "base/progress.h"
#include "bench/bench.h"
#include "bench/load.h"
#include "cli_options.h"
#include "json_writer.h"
#include "measure/configs.h"
#include "output.h"
#include "progress_bars.h"

namespace foveal::bench {
namespace {

using tools::JsonWriter;

/// Of the free memory for the first cache, so that one as large fits beside it.
constexpr double kShare = 0.3;

struct CompareOptions {
  std::string dataset, baseline, report_json;
  int64_t rounds = 10;
  int64_t num_requests = 0;
  int64_t concurrency = -1;
};

OptionGroup describe(CompareOptions& options) {
  return {
      .fields = {
          {.name = "dataset",
           .target = &options.dataset,
           .help = "a .jsonl file as of bench throughput",
           .required = true},
          {.name = "baseline",
           .target = &options.baseline,
           .help = "what the configuration is compared with: dense (if absent), or a YAML file"},
          {.name = "report_json", .target = &options.report_json, .help = "file for the report"},
          {.name = "rounds",
           .target = &options.rounds,
           .help = "each runs the data set once with either configuration, in turns",
           .range = {.min = 3, .max = 1000}},
          {.name = "num_requests",
           .target = &options.num_requests,
           .help = "the first so many of the data set; 0: all",
           .range = {.min = 0}},
          {.name = "concurrency",
           .target = &options.concurrency,
           .help = "requests in flight; -1: all at once",
           .range = {.min = -1, .max = 1024}}}};
}

/// What one configuration took in each round.
struct Series {
  std::vector<double> total, ttft, tpot;
  std::vector<std::vector<int32_t>> first_tokens;  ///< of the first round
  SparsityReport sparsity;
};

// A comparison needs all of its requests.
void check_failures(const std::vector<Failure>& failures) {
  if (!failures.empty()) throw Error(ErrorKind::kInvalidArgument, failures.front().error);
}

void run_round(LLM& llm, std::span<const BenchRequest> requests, int64_t concurrency,
               const std::string& salt, Series& into) {
  const LoadResult load =
      run_load(llm, requests, {.concurrency = concurrency, .cache_salt = salt}, [](int64_t) {});
  check_failures(load.failures);
  std::vector<double> ttft;
  std::vector<double> tpot;
  const bool first = into.total.empty();
  for (const Measured& one : load.requests) {
    ttft.push_back(one.ttft_ms);
    if (one.output_tokens > 1) tpot.push_back(one.tpot_ms);
    if (first) into.first_tokens.push_back(one.token_ids);
    into.sparsity.method = one.sparsity.method;
    into.sparsity.add(one.sparsity);
  }
  into.total.push_back(load.total_ms);
  into.ttft.push_back(measure::average(ttft));
  if (!tpot.empty()) into.tpot.push_back(measure::average(tpot));
}

void run_rounds(LLM& baseline, LLM& tested, std::span<const BenchRequest> requests,
                const CompareOptions& options, Series& of_baseline, Series& of_tested) {
  Series dropped;  // the first run of either pays for memory that is touched for the first time
  run_round(baseline, requests, options.concurrency, "warm-up", dropped);
  run_round(tested, requests, options.concurrency, "warm-up", dropped);
  Progress bar("rounds", options.rounds);
  for (int64_t round = 0; round < options.rounds; ++round) {
    const std::string salt = fmt::format("round {}", round);
    // Turns about: what drifts over time falls on both alike.
    if (round % 2 == 0) run_round(baseline, requests, options.concurrency, salt, of_baseline);
    run_round(tested, requests, options.concurrency, salt, of_tested);
    if (round % 2 != 0) run_round(baseline, requests, options.concurrency, salt, of_baseline);
    bar.update(round + 1);
  }
}

/// What is compared, by the names of the report.
struct Line {
  std::string_view name;
  const std::vector<double>& baseline;
  const std::vector<double>& tested;
};

std::vector<Line> lines_of(const Series& baseline, const Series& tested) {
  std::vector<Line> out{{"total_latency_ms", baseline.total, tested.total},
                        {"avg_ttft_ms", baseline.ttft, tested.ttft}};
  if (!baseline.tpot.empty()) out.push_back({"avg_tpot_ms", baseline.tpot, tested.tpot});
  return out;
}

double equal_share(const Series& baseline, const Series& tested) {
  double equal = 0;
  for (size_t idx = 0; idx < tested.first_tokens.size(); ++idx) {
    equal += baseline.first_tokens.at(idx) == tested.first_tokens[idx] ? 1 : 0;
  }
  return equal / static_cast<double>(tested.first_tokens.size());
}

void write_series(JsonWriter& json, std::string_view key, const std::vector<double>& values) {
  json.key(key).begin_array();
  for (const double value : values) json.value(value);
  json.end_array();
}

std::string compare_json(const Series& baseline, const Series& tested,
                         const CompareOptions& options) {
  JsonWriter json;
  json.begin_object().field("dataset", std::string_view(options.dataset));
  json.field("rounds", options.rounds);
  json.field("outputs_equal", equal_share(baseline, tested));
  json.key("comparisons").begin_object();
  for (const Line& line : lines_of(baseline, tested)) {
    const Comparison got = compare(line.baseline, line.tested);
    json.key(line.name).begin_object().field("ratio", got.ratio);
    json.key("interval").begin_array().value(got.interval.low).value(got.interval.high).end_array();
    json.field("verdict", got.verdict);
    write_series(json, "baseline", line.baseline);
    write_series(json, "tested", line.tested);
    json.end_object();
  }
  json.end_object();
  const LayerSparsity total = tested.sparsity.total();
  json.key("sparsity").begin_object();
  json.field("method", std::string_view(tested.sparsity.method));
  json.field("prefill", total.prefill.skipped()).field("decode", total.decode.skipped());
  json.end_object().end_object();
  return json.text() + "\n";
}

std::string compare_text(const Series& baseline, const Series& tested) {
  std::string out;
  for (const Line& line : lines_of(baseline, tested)) {
    const Comparison got = compare(line.baseline, line.tested);
    out += fmt::format("{:<18} baseline {:.3f}  tested {:.3f}  ratio {:.4f} [{:.4f}, {:.4f}]  {}\n",
                       line.name, measure::percentile(line.baseline, 0.5),
                       measure::percentile(line.tested, 0.5), got.ratio, got.interval.low,
                       got.interval.high, got.verdict);
  }
  const LayerSparsity total = tested.sparsity.total();
  return out + fmt::format(
                   "left out by {}: {:.1f} % in prefill, {:.1f} % in decode; {:.0f} % of the "
                   "answers are the baseline's\n",
                   tested.sparsity.method, 100 * total.prefill.skipped(),
                   100 * total.decode.skipped(), 100 * equal_share(baseline, tested));
}

}  // namespace

Comparison compare(std::span<const double> baseline, std::span<const double> tested) {
  FOVEAL_INVARIANT(baseline.size() == tested.size() && baseline.size() >= 2);
  std::vector<double> logs;
  for (size_t idx = 0; idx < baseline.size(); ++idx) {
    logs.push_back(std::log(tested[idx] / baseline[idx]));
  }
  const measure::Interval of_log = measure::student_interval(logs, 0.99);
  Comparison out{.ratio = std::exp(measure::average(logs)),
                 .interval = {std::exp(of_log.low), std::exp(of_log.high)},
                 .verdict = "no difference shown"};
  if (out.interval.high < 1) out.verdict = "faster";
  if (out.interval.low > 1) out.verdict = "slower";
  return out;
}

int compare_main(std::span<const std::string> args) {
  CompareOptions own;
  LlmConfig config;
  tools::Command command("bench compare",
                         "Two configurations in turns on the same requests, with an interval.");
  command.options("Compare", describe(own));
  command.llm_config(config);
  if (!command.parse(args)) return 0;
  FOVEAL_CHECK(own.concurrency != 0, ErrorKind::kInvalidArgument, "concurrency",
               "got 0; need -1 or a number from 1");
  const tools::OutputFile output{"report-json", own.report_json};
  const std::string inputs[] = {config.model, config.tokenizer, own.dataset, own.baseline,
                                command.given("--config")};
  tools::check_outputs({&output, 1}, inputs);
  const Dataset dataset = read_dataset(own.dataset);
  check_failures(dataset.failures);
  const std::span<const BenchRequest> requests = first(dataset.requests, own.num_requests);
  KvCacheConfig& cache = config.kv_cache_config;
  const bool sized = cache.max_tokens || cache.free_memory_fraction;
  if (!sized) cache.free_memory_fraction = kShare;
  LLM baseline(measure::baseline_config(config, own.baseline), tools::loading_bar());
  if (!sized) cache.max_tokens = baseline.info().kv_tokens;
  LLM tested(config, tools::loading_bar());
  log_info("baseline: {}", baseline.info().attention);
  log_info("tested: {}", tested.info().attention);
  Series of_baseline;
  Series of_tested;
  run_rounds(baseline, tested, requests, own, of_baseline, of_tested);
  const tools::OutputText file{"report-json", own.report_json,
                               compare_json(of_baseline, of_tested, own)};
  tools::write_results({&file, 1}, compare_text(of_baseline, of_tested));
  return 0;
}

}  // namespace foveal::bench

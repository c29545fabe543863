#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <exception>
#include <filesystem>
#include <functional>
#include <optional>

#include "base/check.h"
#include "base/config_fields.h"
#include "base/log.h"
#include "base/progress.h"
#include "calibrate/exclude.h"
#include "calibrate/law.h"
#include "calibrate/output.h"
#include "calibrate/probe.h"
#include "calibrate/rocket.h"
#include "cli_options.h"
#include "commands.h"
#include "engine/inspect.h"
#include "eval/haystack.h"
#include "output.h"
#include "progress_bars.h"

namespace foveal::tools {
namespace {

using calibrate::Law;
using calibrate::PhaseResult;
using calibrate::Point;
using calibrate::Probe;
using calibrate::Texts;
using Clock = std::chrono::steady_clock;

struct CalibrateOptions {
  std::string method, output, file, report_json;
  std::string lengths = "1024,2048,4096";
  std::string law = "auto";
  std::optional<PhaseValue> target_sparsity = PhaseValue{.prefill = 0.5, .decode = 0.5};
  int64_t num_samples = 2;
  int64_t decode_tokens = 32;
  int64_t seed = 42;
  double time_limit = 3600;
  std::string prompt_budgets = "256,512,1024,2048";
  std::string topks = "16,32,64,128";
  double budget_kl = 0.05;
};

OptionGroup describe(CalibrateOptions& options) {
  return {
      .fields = {
          {.name = "method",
           .target = &options.method,
           .help = "what to calibrate",
           .choices = {"skip_softmax", "rocket"},
           .required = true},
          {.name = "output",
           .target = &options.output,
           .help = "file to write: a .json is the model's config.json with the formula in it; "
                   "anything else YAML with the target's factors, for --config",
           .required = true},
          {.name = "report_json",
           .target = &options.report_json,
           .help = "file for every point that was measured, and the checks"},
          {.name = "file",
           .target = &options.file,
           .help = "a text like those the model will read, or .jsonl; absent: generated sentences"},
          {.name = "lengths",
           .target = &options.lengths,
           .help = "tokens of texts: 1024,2048,4096; those beyond the context are left out if not "
                   "asked for"},
          {.name = "target_sparsity",
           .target = &options.target_sparsity,
           .help = "share of query-key pairs to leave out, for both phases or one for each",
           .range = {.min = 0.01, .max = 0.99}},
          {.name = "law",
           .target = &options.law,
           .help = "formula: the published a * exp(b * s), three coefficients, or the one with the "
                   "smaller error",
           .choices = {"auto", "exponential", "three"}},
          {.name = "num_samples",
           .target = &options.num_samples,
           .help = "texts of each length to fit, and as many to check on",
           .range = {.min = 1, .max = 1000}},
          {.name = "decode_tokens",
           .target = &options.decode_tokens,
           .help = "of each text that decode is measured on",
           .range = {.min = 1, .max = 1'000'000}},
          {.name = "seed",
           .target = &options.seed,
           .help = "of generated sentences",
           .range = {.min = 0},
           .also = {"random_seed"}},
          {.name = "time_limit",
           .target = &options.time_limit,
           .help = "seconds; what was measured by then is fitted and checked",
           .range = {.min = 1}},
          {.name = "prompt_budgets",
           .target = &options.prompt_budgets,
           .help = "rocket: values of prompt_budget to try; only those below the prompt"},
          {.name = "topks",
           .target = &options.topks,
           .help = "rocket: values of topk to try with each"},
          {.name = "budget_kl",
           .target = &options.budget_kl,
           .help = "allowed KL to dense, nats; skip_softmax, if given: layers stay dense for it",
           .range = {.min = 0}}}};
}

/// Points that a length is measured at.
constexpr int64_t kPoints = 10;

/// Measures, with a bar and a time limit.
class Measuring {
 public:
  Measuring(LLM& llm, const CalibrateOptions& options, int64_t steps)
      : llm_(llm), options_(options), bar_("calibrating", steps) {}

  /// What is measured next may take until this share of the limit has passed.
  void allow_until(double share) { share_ = share; }
  bool in_time() const {
    const std::chrono::duration<double> passed = Clock::now() - start_;
    return passed.count() < share_ * options_.time_limit;
  }
  Probe probe(const std::vector<std::vector<int32_t>>& texts, calibrate::Phase phase,
              double factor) {
    bar_.update(++done_);
    return calibrate::probe(llm_, texts, phase, factor, options_.decode_tokens);
  }

 private:
  LLM& llm_;
  const CalibrateOptions& options_;
  Progress bar_;
  int64_t done_ = 0;
  double share_ = 1;
  Clock::time_point start_ = Clock::now();
};

// Where two neighbours are furthest apart in what they leave out, the factor between them.
std::pair<size_t, double> widest_gap(const std::vector<Point>& sorted) {
  size_t at = 1;
  for (size_t idx = 1; idx < sorted.size(); ++idx) {
    const double gap = sorted[idx].sparsity - sorted[idx - 1].sparsity;
    if (gap > sorted[at].sparsity - sorted[at - 1].sparsity) at = idx;
  }
  return {at, std::sqrt(sorted[at - 1].factor * sorted[at].factor)};
}

// From where hardly anything is left out to the guard (nothing is left out at a threshold of 1),
// with points where the share changes most.
std::vector<Point> points_of(Measuring& measuring, const std::vector<Texts>& all,
                             calibrate::Phase phase) {
  std::vector<Point> out;
  for (const Texts& texts : all) {
    const auto measure = [&](double factor) -> Point {
      const Probe got = measuring.probe(texts.fitted, phase, factor);
      return {.factor = factor, .sparsity = got.sparsity.skipped(), .length = texts.length};
    };
    std::vector<Point> own{measure(0.3), measure(0.98 * static_cast<double>(texts.length))};
    while (std::ssize(own) < kPoints && measuring.in_time()) {
      const auto [at, factor] = widest_gap(own);
      own.insert(own.begin() + static_cast<std::ptrdiff_t>(at), measure(factor));
    }
    out.insert(out.end(), own.begin(), own.end());
    if (measuring.in_time()) continue;
    log_warn("[calibrate] got no more time; need a larger --time-limit for all points");
    break;
  }
  return out;
}

Law choose(const std::vector<Point>& points, const std::string& wanted, std::string_view phase,
           bool in_time) {
  const std::optional<Law> two = calibrate::fit_exponential(points);
  const std::optional<Law> three = calibrate::fit_three(points);
  for (const auto& [name, law] : {std::pair("exponential", two), std::pair("three", three)}) {
    if (law) log_info("{}: {} is off by {:.1f} points", phase, law->formula, 100 * law->error);
  }
  if (const auto error = calibrate::error_with_length(points)) {
    log_info("{}: a law that knows the length would be off by {:.1f} points", phase, 100 * *error);
  }
  const bool take_three =
      three && wanted != "exponential" && (wanted == "three" || !two || three->error < two->error);
  const std::optional<Law>& law = take_three ? three : two;
  FOVEAL_CHECK(law.has_value(), ErrorKind::kInvalidArgument, "calibrate",
               "got {} points in {} from which no rising law follows; need {}", points.size(),
               phase, in_time ? "longer texts, or more" : "a larger --time-limit");
  return *law;
}

// On texts that the law has not seen: what the targets lead to.
std::vector<calibrate::Check> checks_of(Measuring& measuring, const std::vector<Texts>& all,
                                        calibrate::Phase phase, const Law& law, double target) {
  std::vector<double> targets{0.3, 0.5, 0.7};
  if (std::find(targets.begin(), targets.end(), target) == targets.end()) targets.push_back(target);
  std::vector<calibrate::Check> out;
  for (const Texts& texts : all) {
    if (texts.held_out.empty()) continue;
    const Probe dense = measuring.probe(texts.held_out, phase, 0);
    for (const double wanted : targets) {
      // Beyond what was seen the law leads to thresholds of 1 and more, where nothing is left out.
      if (wanted > law.most && wanted != target) continue;
      if (!measuring.in_time() && wanted != target) continue;
      const double factor = law.factor(wanted);
      const Probe got = measuring.probe(texts.held_out, phase, factor);
      out.push_back({.length = texts.length,
                     .target = wanted,
                     .factor = factor,
                     .achieved = got.sparsity.skipped(),
                     .perplexity_ratio = std::exp(got.loss - dense.loss)});
    }
  }
  return out;
}

/// Of the time limit, what a phase may take.
struct Share {
  double begin = 0;
  double end = 1;
};

PhaseResult calibrated(Measuring& measuring, const std::vector<Texts>& texts,
                       calibrate::Phase phase, double target, const CalibrateOptions& options,
                       const Share& share) {
  PhaseResult out{.name = phase == calibrate::Phase::kPrefill ? "prefill" : "decode",
                  .target = target};
  measuring.allow_until(share.begin + 0.7 * (share.end - share.begin));
  out.points = points_of(measuring, texts, phase);
  out.law = choose(out.points, options.law, out.name, measuring.in_time());
  if (target < out.law.least || target > out.law.most) {
    log_warn(
        "[calibrate] got a target of {} in {}, where {:.3f} to {:.3f} was seen; need texts that "
        "reach it",
        target, out.name, out.law.least, out.law.most);
  }
  measuring.allow_until(share.end);
  out.checks = checks_of(measuring, texts, phase, out.law, target);
  const double factor = out.law.factor(target);
  for (const Texts& one : texts) {
    if (factor < static_cast<double>(one.length)) continue;
    log_warn(
        "[calibrate] got a factor of {:.0f} for {} of {} tokens, where nothing is left out; need "
        "longer texts than the factor",
        factor, out.name, one.length);
  }
  return out;
}

bool is_given(const Command& command, std::string_view name) {
  const auto given = command.given();
  return std::any_of(given.begin(), given.end(),
                     [&](const auto& flag) { return flag.first == name; });
}

std::vector<int64_t> lengths_of(const CalibrateOptions& options, const Command& command,
                                int64_t context) {
  std::vector<int64_t> out = eval::parse_lengths(options.lengths);
  if (!is_given(command, "--lengths"))
    std::erase_if(out, [&](int64_t length) { return length > context; });
  if (out.empty()) out.push_back(context);
  const int64_t least = *std::min_element(out.begin(), out.end());
  const bool decodes = options.target_sparsity && options.target_sparsity->decode;
  FOVEAL_CHECK(!decodes || options.decode_tokens < least, ErrorKind::kInvalidArgument,
               "decode-tokens", "got {} of texts of {}; need fewer, behind a prompt",
               options.decode_tokens, least);
  return out;
}

// Both phases must run the method for requests to bring factors of their own.
LlmConfig measuring_config(LlmConfig config) {
  SkipSoftmaxAttentionConfig skip;
  skip.threshold_scale_factor = PhaseValue{.prefill = 1, .decode = 1};
  config.sparse_attention_config = {skip};
  return config;
}

// Passed over, a flag of the other method would be believed to have counted.
void check_flags(const Command& command, bool rocket) {
  constexpr std::string_view kOfSkipSoftmax[] = {"--target-sparsity", "--law"};
  constexpr std::string_view kOfRocket[] = {"--prompt-budgets", "--topks"};
  for (const std::string_view flag : rocket ? kOfSkipSoftmax : kOfRocket) {
    FOVEAL_CHECK(!is_given(command, flag), ErrorKind::kInvalidArgument, flag,
                 "got it with --method {}; need it with --method {} only",
                 rocket ? "rocket" : "skip_softmax", rocket ? "skip_softmax" : "rocket");
  }
}

// Of a list of lengths the longest: the setting must do for it.
int calibrate_rocket(const CalibrateOptions& own, const LlmConfig& config) {
  FOVEAL_CHECK(!own.file.empty(), ErrorKind::kInvalidArgument, "file",
               "got none; need a text, for generated sentences say nothing of eviction");
  FOVEAL_CHECK(!own.output.ends_with(".json"), ErrorKind::kInvalidArgument, "output",
               "got '{}' for rocket, which has no formula to put into a config.json; need a .yaml",
               own.output);
  const std::vector<int64_t> lengths = eval::parse_lengths(own.lengths);
  const calibrate::RocketSweep sweep{
      .file = own.file,
      .length = *std::max_element(lengths.begin(), lengths.end()),
      .decode_tokens = own.decode_tokens,
      .num_samples = own.num_samples,
      .budgets = eval::parse_lengths(own.prompt_budgets, "--prompt-budgets"),
      .topks = eval::parse_lengths(own.topks, "--topks"),
      .time_limit = own.time_limit};
  const std::vector<calibrate::RocketPoint> points = calibrate::sweep_rocket(config, sweep);
  const calibrate::RocketPoint& chosen = calibrate::choose_rocket(points, own.budget_kl);
  const OutputText files[] = {
      {"output", own.output, calibrate::rocket_yaml(config, points, chosen, sweep, own.budget_kl)},
      {"report-json", own.report_json, calibrate::rocket_json(points, chosen)}};
  write_results(files, calibrate::rocket_table(points, chosen));
  return 0;
}

// Both phases share the time; where layers are to be excluded, half of it is left for that. A phase
// that fails does not take the other's law with it.
calibrate::Calibration calibrated_phases(Measuring& measuring, const std::vector<Texts>& texts,
                                         const CalibrateOptions& own, double time) {
  calibrate::Calibration out;
  std::exception_ptr first;
  const auto add = [&](std::string_view name, calibrate::Phase phase, double target, Share share) {
    try {
      out.phases.push_back(calibrated(measuring, texts, phase, target, own, share));
    } catch (const Error& error) {
      if (!first) first = std::current_exception();
      out.missing.push_back({std::string(name), error.what()});
    }
  };
  const PhaseValue target = own.target_sparsity.value_or(PhaseValue{});
  const double half = target.prefill && target.decode ? time / 2 : time;
  if (target.prefill) {
    add("prefill", calibrate::Phase::kPrefill, *target.prefill, {.begin = 0, .end = half});
  }
  if (target.decode) {
    add("decode", calibrate::Phase::kDecode, *target.decode, {.begin = time - half, .end = time});
  }
  if (out.phases.empty() && first) std::rethrow_exception(first);
  FOVEAL_CHECK(!out.phases.empty(), ErrorKind::kInvalidArgument, "target_sparsity",
               "got no phase; need prefill, decode or both");
  measuring.allow_until(1);
  return out;
}

// A phase that leaves nothing out has a KL that says nothing.
void warn_of_phase(const PhaseResult& phase, const calibrate::Exclusion& found) {
  const LayerSparsity total = found.before.sparsity.total();
  if ((phase.name == "prefill" ? total.prefill : total.decode).skipped() > 0) return;
  log_warn(
      "[calibrate] got nothing left out in {} of windows of {} tokens, whose KL says nothing of "
      "it; need a larger target",
      phase.name, found.length);
}

void warn_of_kl(const calibrate::Exclusion& found) {
  const double kl = (found.dense_layers.empty() ? found.before : found.after).kl;
  if (kl <= found.budget_kl) return;
  log_warn(
      "[calibrate] got a KL of {:.5f} on windows that did not decide the layers; need at most "
      "{:g}: give more --num-samples",
      kl, found.budget_kl);
}

int64_t longest(const std::vector<Texts>& texts) {
  int64_t out = 0;
  for (const Texts& one : texts) out = std::max(out, one.length);
  return out;
}

/// Those that the checkpoint itself keeps dense.
std::vector<int32_t> dense_layers(const LlmConfig& config) {
  const engine::Inspection shown = engine::inspect(measuring_config(config));
  std::vector<int32_t> out;
  for (size_t layer = 0; layer < shown.layers.size(); ++layer) {
    const engine::LayerInspection& its = shown.layers[layer];
    const bool dense = its.prefill.method == "dense" && its.decode.method == "dense";
    if (dense) out.push_back(static_cast<int32_t>(layer));
  }
  return out;
}

// With the factors of the targets, on the longest texts.
calibrate::Exclusion excluded_layers(const CalibrateOptions& own, const LlmConfig& config,
                                     const std::vector<PhaseResult>& phases, int64_t length,
                                     int64_t num_layers, const std::function<bool()>& in_time) {
  constexpr int64_t kPromptRows = 128;
  PhaseValue factors;
  for (const PhaseResult& phase : phases) {
    (phase.name == "prefill" ? factors.prefill : factors.decode) = phase.law.factor(phase.target);
  }
  const calibrate::KlToDense dense(config, {.file = own.file,
                                            .length = length,
                                            .decode_tokens = factors.decode ? own.decode_tokens : 0,
                                            .prompt_rows = factors.prefill ? kPromptRows : 0,
                                            .count = 2 * own.num_samples});
  calibrate::Exclusion out =
      calibrate::exclude_layers(dense, {.threshold_scale_factor = factors},
                                static_cast<int32_t>(num_layers), own.budget_kl, in_time);
  out.length = length;
  return out;
}

int calibrate_skip_softmax(const CalibrateOptions& own, const Command& command,
                           const LlmConfig& config) {
  FOVEAL_CHECK(config.sparse_attention_config.empty(), ErrorKind::kInvalidArgument, "calibrate",
               "got a sparse_attention_config; need none, for it is what is sought");
  const bool exclude = is_given(command, "--budget-kl");
  FOVEAL_CHECK(
      !exclude || !own.file.empty(), ErrorKind::kInvalidArgument, "file",
      "got none beside --budget-kl; need a text, for generated sentences say little of it");
  calibrate::check_target(own.output, config.model);
  std::optional<LLM> llm(std::in_place, measuring_config(config), loading_bar());
  const std::vector<Texts> texts =
      calibrate::make_texts(*llm, own.file, lengths_of(own, command, llm->max_seq_len()),
                            own.num_samples, static_cast<uint64_t>(own.seed));
  // Both phases, each with a dense run and four targets to check.
  Measuring measuring(*llm, own, 2 * std::ssize(texts) * (kPoints + 5));
  calibrate::Calibration found = calibrated_phases(measuring, texts, own, exclude ? 0.5 : 1);
  const ModelInfo info = llm->info();
  llm.reset();  // the next engines may need its memory
  found.dense_before = dense_layers(config);
  if (exclude) {
    // The laws took hours and are right even where no choice of layers keeps to the budget.
    write_file("report-json", own.report_json, calibrate::report_json(info, found));
    found.exclusion = excluded_layers(own, config, found.phases, longest(texts), info.num_layers,
                                      [&] { return measuring.in_time(); });
    for (const PhaseResult& phase : found.phases) warn_of_phase(phase, *found.exclusion);
    warn_of_kl(*found.exclusion);
  }
  const OutputText files[] = {
      {"output", own.output, calibrate::output_text(own.output, config, info, found)},
      {"report-json", own.report_json, calibrate::report_json(info, found)}};
  write_results(files, calibrate::summary_text(found));
  for (const calibrate::MissingPhase& phase : found.missing) {
    log_error("{}; '{}' leaves {} dense", phase.why, own.output, phase.name);
  }
  return found.missing.empty() ? 0 : 1;
}

}  // namespace

int calibrate_main(std::span<const std::string> args) {
  CalibrateOptions own;
  LlmConfig config;
  Command command("calibrate",
                  "Find the settings of a sparse method that leave out a wanted share, or that "
                  "change answers no more than is allowed.");
  command.options("Calibrate", describe(own));
  command.llm_config(config);
  if (!command.parse(args)) return 0;
  const OutputFile outputs[] = {{"output", own.output}, {"report-json", own.report_json}};
  const std::string inputs[] = {config.model, config.tokenizer, own.file,
                                command.given("--config")};
  check_outputs(outputs, inputs);
  check_flags(command, own.method == "rocket");
  if (own.method == "skip_softmax") return calibrate_skip_softmax(own, command, config);
  for (const SparseAttentionConfig& other : config.sparse_attention_config) {
    FOVEAL_CHECK(std::holds_alternative<RocketSparseAttentionConfig>(other),
                 ErrorKind::kInvalidArgument, "calibrate",
                 "got another method in sparse_attention_config; need rocket, or none");
  }
  return calibrate_rocket(own, config);
}

}  // namespace foveal::tools

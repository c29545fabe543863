#include "foveal/version.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <limits>
#include <set>

#include "base/check.h"
#include "base/config_fields.h"
#include "base/log.h"
#include "cli_options.h"
#include "commands.h"
#include "eval/runner.h"
#include "eval/summary.h"
#include "measure/configs.h"
#include "measure/documents.h"
#include "measure/failures.h"
#include "measure/json.h"
#include "output.h"
#include "progress_bars.h"
#include "trtllm_flags.h"

namespace foveal::tools {
namespace {

using eval::Arm;
using eval::Common;
using eval::Task;
using eval::TaskEntry;

struct EvalOptions {
  std::string output_dir, baseline, against;
  client::Server server;
  eval::ChatWays ways;
  TrtllmFlags trtllm;
  int64_t num_samples = 0;
  int64_t seed = 42;
  int64_t concurrency = 4;
  bool chat_template = true;
  bool overwrite = false;
};

OptionGroup describe(EvalOptions& options) {
  return {
      .fields = {
          {.name = "output_dir",
           .target = &options.output_dir,
           .help = "folder for summary.json and samples.jsonl; an interrupted run goes on in it",
           .required = true},
          {.name = "baseline",
           .target = &options.baseline,
           .help = "what a configuration is compared with on the same samples: dense, or another "
                   "YAML file. Given without a configuration, the model as it comes is compared"},
          {.name = "num_samples",
           .target = &options.num_samples,
           .help = "samples (niah: for each length and depth; multi_turn and ruler: for each "
                   "length); 0: the task's own default, of texts all",
           .range = {.min = 0}},
          {.name = "seed",
           .target = &options.seed,
           .help = "of generated samples and of intervals",
           .range = {.min = 0},
           .also = {"random_seed"}},
          {.name = "concurrency",
           .target = &options.concurrency,
           .help = "samples at a time",
           .range = {.min = 1, .max = 1024}},
          {.name = "chat_template",
           .target = &options.chat_template,
           .help = "ask through the model's chat template, where it has one",
           .also = {"apply_chat_template"}},
          {.name = "system_prompt",
           .target = &options.ways.system,
           .help = "a system message before every chat"},
          {.name = "chat_template_kwargs",
           .target = &options.ways.extra,
           .help = "a JSON object of further variables for the chat template"},
          {.name = "overwrite",
           .target = &options.overwrite,
           .help = "drop results that are in the folder"},
          {.name = "against",
           .target = &options.against,
           .help = "address of a running server that answers instead of an engine here; --model "
                   "then only names its tokenizer. --baseline takes an address too"}}};
}

OptionGroup describe_server(EvalOptions& options) {
  return {.fields = client::describe(options.server)};
}

const TaskEntry& find_task(std::string_view name) {
  std::string names;
  for (const TaskEntry& entry : eval::tasks()) {
    if (entry.name == name) return entry;
    names += fmt::format("{}{}", names.empty() ? "" : ", ", entry.name);
  }
  fail(ErrorKind::kInvalidArgument, "eval", "got {}; need one of {}",
       name.empty() ? "no task" : fmt::format("task '{}'", name), names);
}

/// What the arms are started with. Equal configurations share one model.
struct Plan {
  LlmConfig baseline;
  LlmConfig tested;
  bool paired = false;
  bool same = false;
  std::string baseline_name = "dense";
};

Plan make_plan(const EvalOptions& options, const LlmConfig& config, const Task& task) {
  Plan plan{.baseline = measure::baseline_config(config, options.baseline), .tested = config};
  const bool compared = !config.sparse_attention_config.empty() || !options.baseline.empty();
  plan.paired = compared || task.needs_pair();
  if (!options.baseline.empty() && options.baseline != "dense") plan.baseline_name = "baseline";
  if (!compared) {
    plan.tested = plan.baseline;
    plan.same = true;
  }
  return plan;
}

// Enough for what runs at once, twice where a method copies what it keeps, as far as there is
// memory: a task's longest request may be a limit that no sample comes near. The rest of the memory
// is for the other arm and for logits.
void size_cache(LlmConfig& config, const Task& task, int64_t concurrency) {
  if (config.kv_cache_config.max_tokens || config.kv_cache_config.free_memory_fraction) return;
  constexpr int64_t kMost = int64_t{1} << 31;
  constexpr double kShare = 0.4;  // two arms may need it
  const int64_t pages = config.kv_cache_config.tokens_per_block;
  const int64_t request = std::min(task.longest(), kMost) + 2 * pages;
  config.kv_cache_config.max_tokens = std::min(2 * concurrency * request, kMost - 1);
  config.kv_cache_config.free_memory_fraction = kShare;
}

measure::Settings settings_of(const TaskEntry& entry, const Task& task, const Command& command,
                              const LlmConfig& config, const EvalOptions& options) {
  // Of no account to a result, or named below by what is in the file.
  static const std::set<std::string> kPassed{
      "--output-dir",  "--overwrite", "--threads",       "--concurrency", "--log-level",
      "--num-samples", "--config",    "--kv-max-tokens", "--model",       "--baseline",
      "--file",        "--haystack",  "--api-key",       "--timeout"};
  measure::Settings out{
      {"task", std::string(entry.name)}, {"model", config.model}, {"version", kVersion}};
  if (!options.baseline.empty()) {
    const bool file = options.baseline != "dense" && !client::is_url(options.baseline);
    out.emplace_back("baseline",
                     file ? measure::content_hash(options.baseline, "baseline") : options.baseline);
  }
  for (const auto& [flag, values] : command.given()) {
    if (flag == "--config")
      out.emplace_back("config", measure::content_hash(values.front(), "config"));
    if (kPassed.contains(flag)) continue;
    out.emplace_back(flag.substr(2), fmt::format("{}", fmt::join(values, " ")));
  }
  for (auto& [name, hash] : task.contents()) out.emplace_back(name, hash);
  return out;
}

/// What is compared, and what it needs to live. The arms are in `arms`.
struct Cast {
  std::vector<std::unique_ptr<LLM>> engines;
  std::vector<std::unique_ptr<eval::Speaker>> speakers;
  std::vector<Arm> arms;

  void add(std::string name, std::unique_ptr<eval::Speaker> speaker) {
    speakers.push_back(std::move(speaker));
    arms.push_back({std::move(name), *speakers.back()});
  }
};

Cast engines_of(const Plan& plan, const eval::ChatWays& ways) {
  Cast out;
  out.engines.push_back(std::make_unique<LLM>(plan.baseline, loading_bar()));
  out.add(plan.baseline_name, eval::make_speaker(*out.engines.back(), ways));
  if (!plan.paired) return out;
  if (!plan.same) out.engines.push_back(std::make_unique<LLM>(plan.tested, loading_bar()));
  out.add(plan.same ? "again" : "sparse", eval::make_speaker(*out.engines.back(), ways));
  return out;
}

Cast servers_of(const EvalOptions& options, const LlmConfig& config) {
  const tools::TokenizerSource source{
      .model = config.model, .tokenizer = config.tokenizer, .device = config.device};
  Cast out;
  const auto add = [&](const char* name, const std::string& url) {
    client::Server server = options.server;
    server.url = url;
    out.add(name, eval::make_speaker(server, source, options.ways));
  };
  if (!options.baseline.empty()) add("baseline", options.baseline);
  add("server", options.against);
  return out;
}

void check_against(const EvalOptions& options, const LlmConfig& config, const Task& task) {
  if (options.against.empty()) {
    FOVEAL_CHECK(!client::is_url(options.baseline), ErrorKind::kInvalidArgument, "baseline",
                 "got an address; need --against too");
    return;
  }
  client::parse_url(options.against, "against");
  if (!options.baseline.empty()) client::parse_url(options.baseline, "baseline");
  FOVEAL_CHECK(config.sparse_attention_config.empty(), ErrorKind::kInvalidArgument, "against",
               "got a sparse_attention_config too; need none, for the server has its own");
  FOVEAL_CHECK(!task.needs_pair(), ErrorKind::kInvalidArgument, "against",
               "got a task that reads logits; need one of answers");
}

/// Refuses to write over what any flag reads, or into a folder that one reads.
void check_output_dir(const std::string& output_dir, const Command& command) {
  namespace fs = std::filesystem;
  std::error_code code;
  for (const auto& [flag, values] : command.given()) {
    if (flag == "--output-dir") continue;
    for (const std::string& value : values) {
      const bool folder = fs::is_directory(value, code);
      FOVEAL_CHECK(!folder || !fs::equivalent(output_dir, value, code), ErrorKind::kInvalidArgument,
                   "output-dir", "got '{}', which {} reads; need another folder", output_dir, flag);
      for (const char* file : {"settings.json", "samples.jsonl", "summary.json"}) {
        if (!folder) check_not_input("output-dir", (fs::path(output_dir) / file).string(), value);
      }
    }
  }
}

// Samples are the same for all, so each of them must be able to read them: what a method copies
// beside a prompt leaves its arm less of the same cache.
int64_t longest_of(std::span<const Arm> arms) {
  int64_t least = std::numeric_limits<int64_t>::max();
  for (const Arm& arm : arms) least = std::min(least, arm.speaker.max_seq_len());
  return least;
}

int run_eval(const TaskEntry& entry, Task& task, const Cast& cast, const EvalOptions& options,
             measure::ResultFolder& folder, measure::Settings about) {
  const auto start = std::chrono::steady_clock::now();
  const std::vector<Arm>& arms = cast.arms;
  const eval::Speaker& first = arms.front().speaker;
  for (const Arm& arm : arms) log_info("{}: {}", arm.name, arm.speaker.attention());

  const bool chat = options.chat_template && first.has_chat_template();
  task.prepare(first, {.seed = static_cast<uint64_t>(options.seed),
                       .num_samples = options.num_samples,
                       .chat_template = chat,
                       .paired = arms.size() > 1,
                       .max_seq_len = longest_of(arms)});
  set_interrupt_text(fmt::format(
      "[eval] got an interrupt before the end; need the same command again, which goes on in '{}'",
      folder.path()));
  eval::run_samples(task, arms, options.concurrency, folder);

  eval::Results results{.task = std::string(entry.name),
                        .metrics = task.metrics(),
                        .records = eval::collect(task, folder),
                        .seed = static_cast<uint64_t>(options.seed)};
  for (const Arm& arm : arms) {
    results.arms.push_back(arm.name);
    about.emplace_back(arm.name + "_attention", arm.speaker.attention());
  }
  about.emplace_back("device", first.device());
  about.emplace_back("chat_template", chat ? "on" : "off");
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  about.emplace_back("seconds", fmt::format("{:.1f}", took.count()));
  const std::string summary = folder.path() + "/summary.json";
  folder.write("summary.json", eval::summary_json(results, about));
  write_out(eval::summary_text(results));
  std::vector<measure::Failure> failures;
  for (const measure::Record& record : results.records) {
    if (record.error) failures.push_back({record.id, *record.error});
  }
  measure::warn_of(failures, summary);
  return failures.size() == results.records.size() ? 1 : 0;
}

std::string task_help() {
  std::string out = "Measure what a model's answers are worth. Tasks:";
  for (const TaskEntry& entry : eval::tasks()) {
    out += fmt::format("\n  {:<12} {}", entry.name, entry.summary);
  }
  return out + "\nfoveal eval TASK --help lists a task's flags.";
}

}  // namespace

int eval_main(std::span<const std::string> args) {
  EvalOptions own;
  LlmConfig config;
  Command group("eval", task_help());
  group.options("Eval", describe(own));
  group.options("Server", describe_server(own));
  group.options("As for trtllm-eval", describe(own.trtllm));
  group.llm_config(config);
  const size_t at = group.find_word(args);
  if (at == args.size()) {  // --help, or the error that names the tasks
    if (group.parse_help(args)) return 0;
    find_task("");
  }
  const TaskEntry& entry = find_task(args[at]);
  const std::unique_ptr<Task> task = entry.make();
  Command command(fmt::format("eval {}", entry.name), std::string(entry.summary));
  command.options("Task", task->options());
  command.options("Eval", describe(own));
  command.options("Server", describe_server(own));
  command.options("As for trtllm-eval", describe(own.trtllm));
  command.llm_config(config);
  std::vector<std::string> rest(args.begin(), args.end());
  rest.erase(rest.begin() + static_cast<std::ptrdiff_t>(at));
  if (!command.parse(rest)) return 0;

  check_against(own, config, *task);
  check_output_dir(own.output_dir, command);
  measure::parse_object(own.ways.extra, "chat-template-kwargs");
  const measure::Settings settings = settings_of(entry, *task, command, config, own);
  if (!own.against.empty()) {
    const Cast cast = servers_of(own, config);
    measure::ResultFolder folder(own.output_dir, settings, own.overwrite);
    return run_eval(entry, *task, cast, own, folder, settings);
  }
  Plan plan = make_plan(own, config, *task);
  size_cache(plan.baseline, *task, own.concurrency);
  size_cache(plan.tested, *task, own.concurrency);
  measure::ResultFolder folder(own.output_dir, settings, own.overwrite);
  return run_eval(entry, *task, engines_of(plan, own.ways), own, folder, settings);
}

}  // namespace foveal::tools

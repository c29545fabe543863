#include <fmt/format.h>

#include <algorithm>
#include <boost/json/object.hpp>
#include <filesystem>

#include "base/check.h"
#include "base/log.h"
#include "eval/answer.h"
#include "eval/longbench.h"
#include "eval/longbench_v1_sets.h"
#include "eval/task.h"
#include "eval/text_scores.h"
#include "input.h"
#include "measure/documents.h"
#include "measure/json.h"

namespace foveal::eval {
namespace {

namespace fs = std::filesystem;
namespace json = boost::json;

constexpr std::string_view kData = "--dataset-path";
constexpr std::string_view kPrompts = "--prompts-dir";

class LongBenchV1 final : public Task {
 public:
  OptionGroup options() override {
    return {.fields = {{.name = "dataset_path",
                        .target = &folder_,
                        .help = "folder with LongBench's files: hotpotqa.jsonl and so on",
                        .required = true},
                       {.name = "tasks",
                        .target = &tasks_,
                        .help = "all of the folder's, or some: hotpotqa,gov_report"},
                       {.name = "prompts_dir",
                        .target = &prompts_,
                        .help = "folder with the published dataset2prompt.json and "
                                "dataset2maxlen.json; absent: prompts of the same structure"},
                       {.name = "max_input_length",
                        .target = &max_input_,
                        .help = "tokens of a prompt; longer ones lose their middle",
                        .range = {.min = 16, .max = 1 << 24}}}};
  }
  int64_t longest() const override { return max_input_ + 1024; }

  measure::Settings contents() const override {
    measure::Settings out;
    for (const auto& [set, file] : found()) {
      out.emplace_back(std::string(set->name), measure::content_hash(file, kData));
    }
    for (const char* name : {"dataset2prompt.json", "dataset2maxlen.json"}) {
      const fs::path file = fs::path(prompts_) / name;
      if (!prompts_.empty()) out.emplace_back(name, measure::content_hash(file.string(), kPrompts));
    }
    return out;
  }

  void prepare(const Speaker& speaker, const Common& common) override {
    for (const auto& [set, file] : found()) {
      const Ready ready = settings_of(*set);
      int64_t count = 0;
      for (const measure::Document& line : measure::read_objects(file, kData)) {
        if (common.num_samples > 0 && count++ == common.num_samples) break;
        add(speaker, common, line, ready);
      }
    }
  }
  std::span<const measure::Record> samples() const override { return records_; }

  void run(size_t idx, std::span<const Arm> arms, measure::Record& record) const override {
    const Ready& ready = ready_[idx];
    for (const Arm& arm : arms) {
      measure::ArmResult& result = record.arms[arm.name];
      std::string text = answer(arm.speaker, ready.prompt, ready.max_tokens, result);
      if (ready.set->first_line) text = first_line(text);
      double score = 0;
      for (const std::string& reference : record.references) {
        score = std::max(score, ready.set->score(text, reference, ready.classes));
      }
      result.values["score"] = {{score, 1}};
    }
  }

  // As published: the mean of the groups' means of their sets' means.
  std::vector<Metric> metrics() const override {
    return {
        {.name = "score", .title = "score", .transform = percent, .balance = {"group", "task"}}};
  }

 private:
  struct Ready {
    const LongBenchSet* set = nullptr;
    std::string template_text;
    int64_t max_tokens = 0;
    std::vector<std::string> classes;
    std::vector<int32_t> prompt;
  };
  using Found = std::vector<std::pair<const LongBenchSet*, std::string>>;

  Found found() const {
    Found out;
    std::vector<std::string_view> wanted = tools::split_list(tasks_);
    const bool all = tasks_ == "all";
    std::string known;
    for (const LongBenchSet& set : longbench_sets()) {
      known += fmt::format("{}{}", known.empty() ? "" : ", ", set.name);
      const bool named = std::erase(wanted, set.name) > 0;
      const fs::path file = fs::path(folder_) / fmt::format("{}.jsonl", set.name);
      if (!named && (!all || !fs::exists(file))) continue;
      if (set.score == nullptr) {
        FOVEAL_CHECK(!named, ErrorKind::kUnsupported, "--tasks",
                     "got {}, whose score needs Chinese words; need another", set.name);
        log_warn("{} is left out: its score needs Chinese words, which Foveal cannot cut",
                 set.name);
        continue;
      }
      out.emplace_back(&set, file.string());
    }
    FOVEAL_CHECK(all || wanted.empty(), ErrorKind::kInvalidArgument, "--tasks",
                 "got '{}'; need all, or some of {}", wanted.empty() ? "" : wanted.front(), known);
    FOVEAL_CHECK(!out.empty(), ErrorKind::kInvalidArgument, kData,
                 "got '{}' without a file of LongBench; need hotpotqa.jsonl or another", folder_);
    return out;
  }

  json::object published(const char* name) const {
    const std::string file = (fs::path(prompts_) / name).string();
    return measure::parse_object(tools::read_input(file, kPrompts), file);
  }

  Ready settings_of(const LongBenchSet& set) const {
    Ready out{.set = &set, .template_text = std::string(set.prompt), .max_tokens = set.max_tokens};
    if (prompts_.empty()) return out;
    const std::string name(set.name);
    out.template_text = text_field(published("dataset2prompt.json"), name, name);
    const json::object lengths = published("dataset2maxlen.json");
    const json::value* length = lengths.if_contains(name);
    const int64_t* tokens = length == nullptr ? nullptr : length->if_int64();
    FOVEAL_CHECK(tokens != nullptr && *tokens >= 1 && *tokens <= kMostAnswerTokens,
                 ErrorKind::kInvalidArgument, "dataset2maxlen.json",
                 "got no length of {} that can be; need an integer from 1 to {}", name,
                 kMostAnswerTokens);
    out.max_tokens = *tokens;
    return out;
  }

  void add(const Speaker& speaker, const Common& common, const measure::Document& line,
           Ready ready) {
    const LongBenchSet& set = *ready.set;
    measure::Record record{.id = line.id};
    record.tags = {{"group", std::string(set.group)}, {"task", std::string(set.name)}};
    try {
      check_document(line);
      const std::string context = text_field(line.object, "context", line.id);
      const std::string input = text_field(line.object, "input", line.id);
      record.references = texts_field(line.object, "answers", line.id);
      if (set.score == classification) {
        ready.classes = texts_field(line.object, "all_classes", line.id);
      }
      ready.prompt = cut_prompt(
          speaker, filled(ready.template_text, {{"{context}", context}, {"{input}", input}}),
          {.max_input = max_input_,
           .max_output = ready.max_tokens,
           .max_seq_len = common.max_seq_len,
           .chat = common.chat_template && set.chat},
          line.id);
    } catch (const Error& error) {
      record.error = error.what();
    }
    record.prompt_tokens = std::ssize(ready.prompt);
    records_.push_back(std::move(record));
    ready_.push_back(std::move(ready));
  }

  std::string folder_, prompts_;
  std::string tasks_ = "all";
  int64_t max_input_ = 7500;
  std::vector<measure::Record> records_;
  std::vector<Ready> ready_;
};

}  // namespace

std::unique_ptr<Task> make_longbench_v1() { return std::make_unique<LongBenchV1>(); }

}  // namespace foveal::eval

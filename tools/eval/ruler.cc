#include <fmt/format.h>

#include <algorithm>

#include "base/check.h"
#include "eval/answer.h"
#include "eval/length_task.h"
#include "eval/ruler_tasks.h"
#include "input.h"
#include "measure/documents.h"

namespace foveal::eval {
namespace {

// Tokens that the smallest unit has at the least: bounds how many could fit.
constexpr int64_t kLeastUnit = 2;

class Ruler final : public LengthTask {
 public:
  Ruler() : LengthTask("4096") {}

  OptionGroup options() override {
    return {
        .fields = {{.name = "tasks",
                    .target = &tasks_,
                    .help = "all, or some of niah_single_1..3, niah_multikey_1..3, "
                            "niah_multivalue, niah_multiquery, vt, cwe, fwe, qa_1, qa_2, with "
                            "commas"},
                   lengths_field("tokens of whole requests, answer included: 4096,8192"),
                   haystack_field(
                       "a text or .jsonl file for the needle tasks; absent: generated sentences"),
                   {.name = "questions",
                    .target = &questions_,
                    .help = "a file for qa_1 and qa_2: {\"question\", \"answers\", \"documents\"} "
                            "a line; absent: made up"}}};
  }
  measure::Settings contents() const override {
    measure::Settings out = LengthTask::contents();
    if (!questions_.empty())
      out.emplace_back("questions", measure::content_hash(questions_, "questions"));
    return out;
  }

  void prepare(const Speaker& speaker, const Common& common) override {
    Materials materials;
    materials.haystack = make_haystack();
    if (!questions_.empty()) materials.questions = read_questions(questions_);
    const int64_t count = common.num_samples == 0 ? 10 : common.num_samples;
    for (const RulerTask* task : wanted()) {
      for (const int64_t length : parse_lengths(lengths_)) {
        for (int64_t idx = 0; idx < count; ++idx)
          add(speaker, common, materials, *task, length, idx);
      }
    }
  }
  std::span<const measure::Record> samples() const override { return records_; }

  void run(size_t idx, std::span<const Arm> arms, measure::Record& record) const override {
    const Ready& ready = ready_[idx];
    for (const Arm& arm : arms) {
      measure::ArmResult& result = record.arms[arm.name];
      const std::string text = answer(arm.speaker, ready.prompt, ready.task->max_tokens, result);
      const double score = ruler_score(text, record.references, ready.task->any_reference);
      result.values["score"] = {{score, 1}};
    }
  }

  std::vector<Metric> metrics() const override {
    return {{.name = "score", .title = "score", .transform = percent}};
  }

 private:
  struct Ready {
    const RulerTask* task;
    std::vector<int32_t> prompt;
  };

  std::vector<const RulerTask*> wanted() const {
    std::vector<const RulerTask*> out;
    std::string known;
    for (const RulerTask& task : ruler_tasks()) {
      known += fmt::format("{}{}", known.empty() ? "" : ", ", task.name);
      if (tasks_ == "all") out.push_back(&task);
    }
    if (tasks_ == "all") return out;
    for (const std::string_view name : tools::split_list(tasks_)) {
      const auto found = std::find_if(ruler_tasks().begin(), ruler_tasks().end(),
                                      [&](const RulerTask& task) { return task.name == name; });
      FOVEAL_CHECK(found != ruler_tasks().end(), ErrorKind::kInvalidArgument, "--tasks",
                   "got '{}'; need all, or some of {}", name, known);
      out.push_back(&*found);
    }
    return out;
  }

  void add(const Speaker& speaker, const Common& common, const Materials& materials,
           const RulerTask& task, int64_t length, int64_t idx) {
    measure::Record record{.id = fmt::format("{}/length={}/{}", task.name, length, idx)};
    record.tags = {{"task", std::string(task.name)}, {"length", fmt::format("{}", length)}};
    std::vector<int32_t> prompt;
    try {
      FOVEAL_CHECK(length <= common.max_seq_len, ErrorKind::kContextLength, record.id,
                   "got {} tokens; need at most {}, {}", length, common.max_seq_len, kLongestIs);
      const measure::Random random(common.seed, record.id);
      const auto ids = [&](const Draft& draft) {
        return prompt_ids(speaker, {{"user", draft.user}}, draft.prefix, common.chat_template);
      };
      const auto tokens = [&](size_t units) {
        return std::ssize(ids(task.build(materials, random, units))) + task.max_tokens;
      };
      FOVEAL_CHECK(tokens(0) <= length, ErrorKind::kInvalidArgument, record.id,
                   "got a length of {}; need room for question and answer alone", length);
      const size_t units = largest(static_cast<size_t>(length / kLeastUnit), length, tokens);
      const Draft draft = task.build(materials, random, units);
      record.references = draft.references;
      prompt = ids(draft);
    } catch (const Error& error) {
      record.error = error.what();
    }
    record.prompt_tokens = std::ssize(prompt);
    records_.push_back(std::move(record));
    ready_.push_back({.task = &task, .prompt = std::move(prompt)});
  }

  std::string tasks_ = "all";
  std::string haystack_, questions_;
  std::vector<measure::Record> records_;
  std::vector<Ready> ready_;
};

}  // namespace

std::unique_ptr<Task> make_ruler() { return std::make_unique<Ruler>(); }

}  // namespace foveal::eval

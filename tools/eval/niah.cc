#include <fmt/format.h>

#include <algorithm>

#include "base/check.h"
#include "eval/length_task.h"
#include "eval/needles.h"

namespace foveal::eval {
namespace {

constexpr const char* kIntroduction =
    "Some special magic numbers are hidden within the following text. Make sure to memorize them. "
    "I will quiz you about the numbers afterwards.\n";

class Niah final : public LengthTask {
 public:
  Niah() : LengthTask("512,1024,2048,4096") {}

  OptionGroup options() override {
    return {.fields = {
                lengths_field("tokens of whole requests, answer included: 512,4096"),
                {.name = "depths",
                 .target = &depths_,
                 .help = "evenly spaced places of the needle, from the text's start to its end",
                 .range = {.min = 1, .max = 1000}},
                {.name = "distractors",
                 .target = &distractors_,
                 .help = "further needles, under other keys, at random places",
                 .range = {.min = 0, .max = 900}},
                haystack_field("a text or .jsonl file to hide it in; absent: generated sentences"),
                max_tokens_field(max_tokens_)}};
  }

  void prepare(const Speaker& speaker, const Common& common) override {
    const Haystack haystack = make_haystack();
    const int64_t repeats = std::max<int64_t>(1, common.num_samples);
    for (const int64_t length : parse_lengths(lengths_)) {
      for (int64_t depth = 0; depth < depths_; ++depth) {
        const double share =
            depths_ == 1 ? 0.5 : static_cast<double>(depth) / static_cast<double>(depths_ - 1);
        for (int64_t repeat = 0; repeat < repeats; ++repeat) {
          add(speaker, common, haystack, length, share, repeat);
        }
      }
    }
  }
  std::span<const measure::Record> samples() const override { return records_; }

  void run(size_t idx, std::span<const Arm> arms, measure::Record& record) const override {
    for (const Arm& arm : arms) {
      measure::ArmResult& result = record.arms[arm.name];
      const std::string text = answer(arm.speaker, prompts_[idx], max_tokens_, result);
      result.values["score"] = {{found(text, record.references.at(0)), 1}};
    }
  }

  std::vector<Metric> metrics() const override {
    return {{.name = "score", .title = "score", .transform = percent}};
  }

 private:
  void add(const Speaker& speaker, const Common& common, const Haystack& haystack, int64_t length,
           double depth, int64_t repeat) {
    measure::Record record{.id = fmt::format("length={}/depth={:.3f}/{}", length, depth, repeat)};
    record.tags = {{"length", fmt::format("{}", length)}, {"depth", fmt::format("{:.3f}", depth)}};
    std::vector<int32_t> prompt;
    try {
      FOVEAL_CHECK(length <= common.max_seq_len, ErrorKind::kContextLength, record.id,
                   "got {} tokens; need at most {}, {}", length, common.max_seq_len, kLongestIs);
      measure::Random random(common.seed, record.id);
      std::vector<Needle> needles = random_needles(random, static_cast<size_t>(1 + distractors_));
      needles[0].depth = depth;
      record.references = {needles[0].value};
      const auto ids = [&](const std::string& context) {
        return prompt_ids(speaker,
                          {{"user", kIntroduction + context + "\n" + needle_question(needles[0])}},
                          needle_prefix(needles[0]), common.chat_template);
      };
      prompt = ids(bury(haystack, random, needles, length, [&](const std::string& context) {
        return static_cast<int64_t>(ids(context).size()) + max_tokens_;
      }));
    } catch (const Error& error) {
      record.error = error.what();
    }
    record.prompt_tokens = static_cast<int64_t>(prompt.size());
    records_.push_back(std::move(record));
    prompts_.push_back(std::move(prompt));
  }

  int64_t depths_ = 10;
  int64_t distractors_ = 0;
  int64_t max_tokens_ = 24;
  std::vector<measure::Record> records_;
  std::vector<std::vector<int32_t>> prompts_;
};

}  // namespace

std::unique_ptr<Task> make_niah() { return std::make_unique<Niah>(); }

}  // namespace foveal::eval

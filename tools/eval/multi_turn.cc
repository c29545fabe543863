#include <fmt/format.h>

#include <algorithm>

#include "base/check.h"
#include "eval/length_task.h"
#include "eval/needles.h"

namespace foveal::eval {
namespace {

constexpr const char* kIntroduction =
    "Several special magic numbers are hidden within the following text. Make sure to memorize "
    "them. I will quiz you about the numbers afterwards.\n";

/// One context, and questions about it one after the other. Each turn's prompt has the arm's own
/// answers so far.
class MultiTurn final : public LengthTask {
 public:
  MultiTurn() : LengthTask("2048,4096") {}

  OptionGroup options() override {
    return {.fields = {lengths_field("tokens of whole conversations: 2048,4096"),
                       {.name = "turns",
                        .target = &turns_,
                        .help = "questions over one text, in an order of its own in each sample",
                        .range = {.min = 1, .max = 100}},
                       haystack_field("a text or .jsonl file; absent: generated sentences"),
                       max_tokens_field(max_tokens_)}};
  }

  void prepare(const Speaker& speaker, const Common& common) override {
    const Haystack haystack = make_haystack();
    chat_template_ = common.chat_template;
    const int64_t count = common.num_samples == 0 ? 10 : common.num_samples;
    for (const int64_t length : parse_lengths(lengths_)) {
      for (int64_t idx = 0; idx < count; ++idx) add(speaker, common, haystack, length, idx);
    }
  }
  std::span<const measure::Record> samples() const override { return records_; }

  void run(size_t idx, std::span<const Arm> arms, measure::Record& record) const override {
    const Talk& talk = talks_[idx];
    for (const Arm& arm : arms) {
      measure::ArmResult& result = record.arms[arm.name];
      std::vector<Turn> turns;
      measure::Unit all;
      for (const Needle& needle : talk.needles) {
        ask(talk, needle, turns);
        const std::string prefix = needle_prefix(needle);
        const std::string text =
            answer(arm.speaker, prompt_ids(arm.speaker, turns, prefix, chat_template_), max_tokens_,
                   result);
        turns.push_back({"assistant", prefix + first_line(text)});
        const double score = found(text, needle.value);
        all.sum += score;
        all.count += 1;
        result.values[turn_name(static_cast<size_t>(all.count) - 1)] = {{score, 1}};
      }
      result.values["score"] = {all};  // turns of one talk stand and fall together
    }
  }

  std::vector<Metric> metrics() const override {
    std::vector<Metric> out{{.name = "score", .title = "score", .transform = percent}};
    for (const std::string& name : names_) {
      out.push_back({.name = name, .title = name, .transform = percent});
    }
    return out;
  }

 private:
  struct Talk {
    std::string context;
    std::vector<Needle> needles;  ///< in the order of the questions
  };

  static std::string turn_name(size_t idx) { return fmt::format("turn_{}", idx + 1); }

  // What follows the number is the model's chatter, and would take the room of later turns.
  static std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

  static void ask(const Talk& talk, const Needle& needle, std::vector<Turn>& turns) {
    const std::string question = needle_question(needle);
    turns.push_back(
        {"user", turns.empty() ? kIntroduction + talk.context + "\n" + question : question});
  }

  // Of the whole conversation if each answer takes all it may.
  int64_t tokens(const Speaker& speaker, const Talk& talk) const {
    std::vector<Turn> turns;
    for (const Needle& needle : talk.needles) {
      ask(talk, needle, turns);
      if (&needle != &talk.needles.back()) turns.push_back({"assistant", needle_prefix(needle)});
    }
    const std::string prefix = needle_prefix(talk.needles.back());
    return static_cast<int64_t>(prompt_ids(speaker, turns, prefix, chat_template_).size()) +
           turns_ * max_tokens_;
  }

  void add(const Speaker& speaker, const Common& common, const Haystack& haystack, int64_t length,
           int64_t idx) {
    measure::Record record{.id = fmt::format("length={}/{}", length, idx)};
    record.tags = {{"length", fmt::format("{}", length)}};
    Talk talk;
    try {
      FOVEAL_CHECK(length <= common.max_seq_len, ErrorKind::kContextLength, record.id,
                   "got {} tokens; need at most {}, {}", length, common.max_seq_len, kLongestIs);
      measure::Random random(common.seed, record.id);
      talk.needles = random_needles(random, static_cast<size_t>(turns_));
      random.shuffle(talk.needles);
      for (const Needle& needle : talk.needles) record.references.push_back(needle.value);
      talk.context = bury(haystack, random, talk.needles, length, [&](const std::string& context) {
        return tokens(speaker, {.context = context, .needles = talk.needles});
      });
      record.prompt_tokens = tokens(speaker, talk);
    } catch (const Error& error) {
      record.error = error.what();
    }
    while (names_.size() < static_cast<size_t>(turns_)) names_.push_back(turn_name(names_.size()));
    records_.push_back(std::move(record));
    talks_.push_back(std::move(talk));
  }

  int64_t turns_ = 5;
  int64_t max_tokens_ = 24;
  bool chat_template_ = true;
  std::vector<std::string> names_;
  std::vector<measure::Record> records_;
  std::vector<Talk> talks_;
};

}  // namespace

std::unique_ptr<Task> make_multi_turn() { return std::make_unique<MultiTurn>(); }

}  // namespace foveal::eval

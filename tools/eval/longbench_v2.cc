#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <boost/json/array.hpp>
#include <filesystem>
#include <optional>

#include "base/check.h"
#include "eval/answer.h"
#include "eval/choice.h"
#include "eval/longbench.h"
#include "eval/task.h"
#include "input.h"
#include "measure/documents.h"

namespace foveal::eval {
namespace {

namespace fs = std::filesystem;
namespace json = boost::json;

constexpr std::string_view kData = "--dataset-path";
constexpr std::string_view kPrompts = "--prompts-dir";
constexpr int64_t kShortAnswer = 128;
constexpr int64_t kThought = 1024;

/// The prompts, by the names of the files that LongBench v2 publishes them in; these have their
/// structure in our words.
struct Template {
  const char* file;
  const char* text;
};
constexpr Template kPlain{"0shot.txt",
                          "Read the text below and answer a question about "
                          "it.\n\n<text>\n$DOC$\n</text>\n\nWhich answer to "
                          "this question is right?\n$Q$\n\nChoices:\n(A) $C_A$\n(B) $C_B$\n(C) "
                          "$C_C$\n(D) $C_D$\n\nAnswer in "
                          "this form: \"The correct answer is (letter)\"."};
constexpr Template kThink{"0shot_cot.txt",
                          "Read the text below and answer a question about "
                          "it.\n\n<text>\n$DOC$\n</text>\n\nWhich answer to "
                          "this question is right?\n$Q$\n\nChoices:\n(A) $C_A$\n(B) $C_B$\n(C) "
                          "$C_C$\n(D) $C_D$\n\nThink step "
                          "by step:"};
constexpr Template kConclude{
    "0shot_cot_ans.txt",
    "Read the text below and answer a question about it.\n\nThe text is too long to be shown "
    "here.\n\nWhich answer to this question is right?\n$Q$\n\nChoices:\n(A) $C_A$\n(B) $C_B$\n(C) "
    "$C_C$\n(D) $C_D$\n\nWhat was thought step by step: $COT$\n\nFrom that, which answer is right? "
    "Answer in this form: \"The correct answer is (letter)\"."};
constexpr Template kNothing{
    "0shot_no_context.txt",
    "Which answer to this question is right?\n$Q$\n\nChoices:\n(A) $C_A$\n(B) $C_B$\n(C) "
    "$C_C$\n(D) "
    "$C_D$\n\nChoose the likeliest even where you cannot know. Answer in this form: \"The correct "
    "answer is (letter)\"."};
constexpr Template kPieces{
    "0shot_rag.txt",
    "Read the pieces of a long text below, which were found for a question, and answer it.\n\n"
    "<pieces>\n$DOC$\n</pieces>\n\nWhich answer to this question is right?\n$Q$\n\nChoices:\n(A) "
    "$C_A$\n(B) $C_B$\n(C) $C_C$\n(D) $C_D$\n\nAnswer in this form: \"The correct answer is "
    "(letter)\"."};

class LongBenchV2 final : public Task {
 public:
  OptionGroup options() override {
    OptionGroup group{.fields = source_fields()};
    for (OptionField& field : way_fields()) group.fields.push_back(std::move(field));
    group.check = [this]() -> std::optional<Complaint> {
      if (no_context_ && rag_ > 0)
        return Complaint{"no_context", "got it with rag; need one of them"};
      return std::nullopt;
    };
    return group;
  }
  int64_t longest() const override { return max_input_ + 1024 + max_output(); }

  measure::Settings contents() const override {
    measure::Settings out{{"data", measure::content_hash(file(), kData)}};
    if (prompts_.empty()) return out;
    for (const Template* one : {&plain(), &kConclude}) {
      if (one == &kConclude && !cot_) continue;
      out.emplace_back(one->file, template_hash(*one));
    }
    return out;
  }

  void prepare(const Speaker& speaker, const Common& common) override {
    chat_ = common.chat_template;
    max_seq_len_ = common.max_seq_len;
    const std::string text = template_text(plain());
    if (cot_) conclude_ = template_text(kConclude);
    int64_t seen = 0;
    for (const measure::Document& line : measure::read_objects(file(), kData)) {
      if (!line.error && !is_wanted(line.object)) continue;
      if (seen++ < start_idx_) continue;
      if (common.num_samples > 0 && std::ssize(records_) == common.num_samples) break;
      add(speaker, line, text);
    }
    FOVEAL_CHECK(seen == 0 || !records_.empty(), ErrorKind::kInvalidArgument, "start_idx",
                 "got {}; need less than the {} samples there are", start_idx_, seen);
    FOVEAL_CHECK(seen > 0, ErrorKind::kInvalidArgument, "longbench_v2",
                 "got no sample of these difficulty, length and domain in '{}'; need some", file());
  }
  std::span<const measure::Record> samples() const override { return records_; }

  void run(size_t idx, std::span<const Arm> arms, measure::Record& record) const override {
    for (const Arm& arm : arms) {
      measure::ArmResult& result = record.arms[arm.name];
      std::string text = answer(arm.speaker, ready_[idx].prompt, max_output(), result);
      if (cot_) {
        auto values = ready_[idx].values();
        values.emplace_back("$COT$", text);
        const std::vector<int32_t> prompt =
            cut_prompt(arm.speaker, filled(conclude_, values), limits(kShortAnswer), record.id);
        text = answer(arm.speaker, prompt, kShortAnswer, result);
      }
      const std::string letter = chosen_letter(text);
      result.values["score"] = {{letter == record.references.at(0) ? 1.0 : 0.0, 1}};
      result.values["answered"] = {{letter.empty() ? 0.0 : 1.0, 1}};
    }
  }

  std::vector<Metric> metrics() const override {
    return {{.name = "score", .title = "score", .transform = percent},
            {.name = "answered", .title = "answered", .transform = percent}};
  }

 private:
  struct Ready {
    std::array<std::string, 5> texts;  ///< question and choices
    std::vector<int32_t> prompt;

    std::vector<std::pair<std::string_view, std::string_view>> values() const {
      return {{"$Q$", texts[0]},
              {"$C_A$", texts[1]},
              {"$C_B$", texts[2]},
              {"$C_C$", texts[3]},
              {"$C_D$", texts[4]}};
    }
  };

  std::vector<OptionField> source_fields() {
    return {{.name = "dataset_path",
             .target = &path_,
             .help = "a .jsonl file of LongBench v2, or the folder of its data.jsonl",
             .required = true},
            {.name = "prompts_dir",
             .target = &prompts_,
             .help = "folder with the published 0shot.txt and so on; absent: prompts of the same "
                     "structure"},
            {.name = "start_idx",
             .target = &start_idx_,
             .help = "samples to pass over first",
             .range = {.min = 0}},
            {.name = "difficulty",
             .target = &difficulty_,
             .help = "only such samples",
             .choices = {"easy", "hard"}},
            {.name = "length",
             .target = &length_,
             .help = "only such samples",
             .choices = {"short", "medium", "long"}},
            {.name = "domain", .target = &domain_, .help = "only samples of this domain"}};
  }

  std::vector<OptionField> way_fields() {
    return {{.name = "cot",
             .target = &cot_,
             .help = "let the model think first, then ask for the letter"},
            {.name = "no_context",
             .target = &no_context_,
             .help = "without the text: what is known by heart, or guessed"},
            {.name = "rag",
             .target = &rag_,
             .help = "in place of the text the first so many of a sample's retrieved_context",
             .range = {.min = 0}},
            {.name = "max_input_length",
             .target = &max_input_,
             .help = "tokens of a prompt; longer ones lose their middle",
             .range = {.min = 16, .max = 1 << 24}},
            {.name = "max_output_length",
             .target = &max_output_,
             .help = "tokens of an answer; 0: 128, with --cot 1024",
             .range = {.min = 0, .max = 1 << 24}}};
  }

  std::string file() const {
    return fs::is_directory(path_) ? (fs::path(path_) / "data.jsonl").string() : path_;
  }
  int64_t max_output() const {
    return max_output_ > 0 ? max_output_ : cot_ ? kThought : kShortAnswer;
  }
  PromptLimits limits(int64_t output) const {
    return {
        .max_input = max_input_, .max_output = output, .max_seq_len = max_seq_len_, .chat = chat_};
  }
  const Template& plain() const {
    if (no_context_) return kNothing;
    return rag_ > 0 ? kPieces : cot_ ? kThink : kPlain;
  }
  std::string template_file(const Template& of) const {
    return (fs::path(prompts_) / of.file).string();
  }
  std::string template_hash(const Template& of) const {
    return measure::content_hash(template_file(of), kPrompts);
  }
  std::string template_text(const Template& of) const {
    return prompts_.empty() ? of.text : tools::read_input(template_file(of), kPrompts);
  }

  bool is_wanted(const json::object& line) const {
    const auto is = [&](const char* key, const std::string& wanted) {
      const json::value* found = line.if_contains(key);
      return wanted.empty() ||
             (found != nullptr && found->is_string() && found->get_string() == wanted);
    };
    return is("difficulty", difficulty_) && is("length", length_) && is("domain", domain_);
  }

  std::string document(const json::object& line, const std::string& where) const {
    if (no_context_) return "";
    if (rag_ == 0) return text_field(line, "context", where);
    const json::value* found = line.if_contains("retrieved_context");
    FOVEAL_CHECK(found != nullptr && found->is_array() && !found->get_array().empty(),
                 ErrorKind::kInvalidArgument, where, "got no retrieved_context; need a list");
    std::string out;
    int64_t count = 0;
    for (const json::value& piece : found->get_array()) {
      if (++count > rag_) break;
      FOVEAL_CHECK(piece.is_object(), ErrorKind::kInvalidArgument, where,
                   "got a piece that is no object; need {{\"content\"}}");
      out +=
          fmt::format("Piece {}: {}\n\n", count, text_field(piece.get_object(), "content", where));
    }
    return out;
  }

  void add(const Speaker& speaker, const measure::Document& line, const std::string& text) {
    measure::Record record{.id = line.id};
    Ready ready;
    try {
      check_document(line);
      for (const char* tag : {"difficulty", "length", "domain"}) {
        record.tags[tag] = text_field(line.object, tag, line.id);
      }
      record.references = {text_field(line.object, "answer", line.id)};
      const std::string& right = record.references[0];
      FOVEAL_CHECK(right.size() == 1 && right[0] >= 'A' && right[0] <= 'D',
                   ErrorKind::kInvalidArgument, line.id, "got the answer '{}'; need A, B, C or D",
                   right);
      constexpr std::array kFields{"question", "choice_A", "choice_B", "choice_C", "choice_D"};
      for (size_t idx = 0; idx < kFields.size(); ++idx) {
        ready.texts.at(idx) = text_field(line.object, kFields.at(idx), line.id);
      }
      auto values = ready.values();
      const std::string doc = document(line.object, line.id);
      values.emplace_back("$DOC$", doc);
      ready.prompt = cut_prompt(speaker, filled(text, values), limits(max_output()), line.id);
    } catch (const Error& error) {
      record.error = error.what();
    }
    record.prompt_tokens = std::ssize(ready.prompt);
    records_.push_back(std::move(record));
    ready_.push_back(std::move(ready));
  }

  std::string path_, prompts_, difficulty_, length_, domain_, conclude_;
  int64_t start_idx_ = 0;
  int64_t rag_ = 0;
  int64_t max_input_ = 128000;
  int64_t max_output_ = 0;
  int64_t max_seq_len_ = 0;
  bool cot_ = false;
  bool no_context_ = false;
  bool chat_ = true;
  std::vector<measure::Record> records_;
  std::vector<Ready> ready_;
};

}  // namespace

std::unique_ptr<Task> make_longbench_v2() { return std::make_unique<LongBenchV2>(); }

}  // namespace foveal::eval

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "bench/bench.h"
#include "bench/dataset.h"
#include "cli_options.h"
#include "measure/documents.h"
#include "measure/random.h"
#include "output.h"
#include "tokenizer_source.h"

namespace foveal::bench {
namespace {

using measure::Random;

constexpr int64_t kMostTokens = int64_t{1} << 24;

struct PrepareOptions {
  std::string output;
  int64_t seed = 42;
};

OptionGroup describe(PrepareOptions& options, tools::TokenizerSource& source) {
  OptionGroup group{.fields = tools::describe(source)};
  group.fields.push_back({.name = "output",
                          .target = &options.output,
                          .help = "the .jsonl file to write",
                          .required = true});
  group.fields.push_back({.name = "seed",
                          .target = &options.seed,
                          .help = "of lengths and tokens",
                          .range = {.min = 0},
                          .also = {"random_seed"}});
  return group;
}

/// How long requests are.
class Lengths {
 public:
  virtual ~Lengths() = default;
  virtual OptionGroup options() = 0;
  virtual void write(const tools::TokenizerSource& source, uint64_t seed, std::string& out) = 0;
};

OptionField tokens_field(std::string_view name, int64_t* target, std::string_view help,
                         int64_t least) {
  return {.name = name,
          .target = target,
          .help = help,
          .range = {.min = static_cast<double>(least), .max = static_cast<double>(kMostTokens)}};
}

/// Requests of random ids, with lengths that a subclass draws.
class RandomLengths : public Lengths {
 public:
  void write(const tools::TokenizerSource& source, uint64_t seed, std::string& out) final {
    const std::vector<int32_t> plain = plain_ids(source);
    for (int64_t task = 0; task < num_requests_; ++task) {
      Random random(seed, fmt::format("request {}", task));
      std::vector<int32_t> ids(static_cast<size_t>(input_length(random)));
      for (int32_t& id : ids) id = random.pick(std::span<const int32_t>(plain));
      out += dataset_line(task, ids, output_length(random));
    }
  }

 protected:
  OptionField requests_field() {
    return {.name = "num_requests",
            .target = &num_requests_,
            .help = "lines to write",
            .range = {.min = 1, .max = 1e7}};
  }
  virtual int64_t input_length(Random& random) const = 0;
  virtual int64_t output_length(Random& random) const = 0;

 private:
  int64_t num_requests_ = 100;
};

int64_t draw_normal(Random& random, int64_t mean, int64_t stdev) {
  const double value = static_cast<double>(mean) + static_cast<double>(stdev) * random.normal();
  return std::clamp<int64_t>(std::llround(value), 1, kMostTokens);
}

class Normal final : public RandomLengths {
 public:
  OptionGroup options() override {
    return {.fields = {requests_field(),
                       tokens_field("input_mean", &input_mean_, "tokens of a prompt", 1),
                       tokens_field("input_stdev", &input_stdev_, "and their deviation", 0),
                       tokens_field("output_mean", &output_mean_, "tokens of an answer", 1),
                       tokens_field("output_stdev", &output_stdev_, "and their deviation", 0)}};
  }

 private:
  int64_t input_length(Random& random) const override {
    return draw_normal(random, input_mean_, input_stdev_);
  }
  int64_t output_length(Random& random) const override {
    return draw_normal(random, output_mean_, output_stdev_);
  }
  int64_t input_mean_ = 1024;
  int64_t input_stdev_ = 0;
  int64_t output_mean_ = 128;
  int64_t output_stdev_ = 0;
};

class Uniform final : public RandomLengths {
 public:
  OptionGroup options() override {
    return {.fields = {requests_field(),
                       tokens_field("input_min", &input_min_, "tokens of a prompt, at least", 1),
                       tokens_field("input_max", &input_max_, "and at most", 1),
                       tokens_field("output_min", &output_min_, "tokens of an answer, at least", 1),
                       tokens_field("output_max", &output_max_, "and at most", 1)},
            .check = [this]() -> std::optional<Complaint> {
              if (input_min_ > input_max_) {
                return Complaint{"input_min", fmt::format("got {}; need at most input_max ({})",
                                                          input_min_, input_max_)};
              }
              if (output_min_ <= output_max_) return std::nullopt;
              return Complaint{"output_min", fmt::format("got {}; need at most output_max ({})",
                                                         output_min_, output_max_)};
            }};
  }

 private:
  int64_t input_length(Random& random) const override {
    return random.between(input_min_, input_max_);
  }
  int64_t output_length(Random& random) const override {
    return random.between(output_min_, output_max_);
  }
  int64_t input_min_ = 512;
  int64_t input_max_ = 1024;
  int64_t output_min_ = 64;
  int64_t output_max_ = 128;
};

/// Prompts of a file of texts.
class RealTexts final : public Lengths {
 public:
  OptionGroup options() override {
    return {.fields = {{.name = "file",
                        .target = &file_,
                        .help = "a .jsonl file with texts ({\"text\"} or {\"prompt\"}; "
                                "\"output_tokens\" of a line wins over output_mean)",
                        .required = true},
                       {.name = "num_requests",
                        .target = &num_requests_,
                        .help = "the first so many; 0: all",
                        .range = {.min = 0}},
                       tokens_field("max_input_len", &max_input_len_,
                                    "longer prompts are cut to their first so many tokens", 1),
                       tokens_field("output_mean", &output_mean_, "tokens of an answer", 1),
                       tokens_field("output_stdev", &output_stdev_, "and their deviation", 0)}};
  }

  void write(const tools::TokenizerSource& source, uint64_t seed, std::string& out) override {
    const auto tokenizer = tools::load(source);
    int64_t task = 0;
    for (const measure::Document& document : measure::read_lines(file_)) {
      if (num_requests_ > 0 && task == num_requests_) break;
      check_document(document);
      std::vector<int32_t> ids = document.ids ? *document.ids
                                              : tokenizer->encode(document.text,
                                                                  /*parse_special=*/false);
      FOVEAL_CHECK(!ids.empty(), ErrorKind::kInvalidArgument, document.id,
                   "got no tokens; need a text");
      if (std::ssize(ids) > max_input_len_) ids.resize(static_cast<size_t>(max_input_len_));
      Random random(seed, fmt::format("request {}", task));
      const boost::json::value* own = document.object.if_contains("output_tokens");
      const int64_t* count = own != nullptr ? own->if_int64() : nullptr;
      out += dataset_line(task++, ids,
                          count != nullptr && *count >= 1
                              ? *count
                              : draw_normal(random, output_mean_, output_stdev_));
    }
  }

 private:
  std::string file_;
  int64_t num_requests_ = 0;
  int64_t max_input_len_ = kMostTokens;
  int64_t output_mean_ = 128;
  int64_t output_stdev_ = 0;
};

std::unique_ptr<Lengths> make_lengths(std::string_view word) {
  if (word == "token-norm-dist") return std::make_unique<Normal>();
  if (word == "token-unif-dist") return std::make_unique<Uniform>();
  FOVEAL_CHECK(word == "dataset", ErrorKind::kInvalidArgument, "bench prepare-dataset",
               "got {}; need one of token-norm-dist, token-unif-dist, dataset",
               word.empty() ? "no kind" : fmt::format("'{}'", word));
  return std::make_unique<RealTexts>();
}

}  // namespace

int prepare_main(std::span<const std::string> args) {
  PrepareOptions own;
  tools::TokenizerSource source;
  const std::string summary =
      "Write a data set for bench: token-norm-dist (normal lengths, random ids), token-unif-dist "
      "(even lengths) or dataset (texts of a file).";
  tools::Command group("bench prepare-dataset", summary);
  group.options("Data set", describe(own, source));
  const size_t at = group.find_word(args);
  if (at == args.size() && group.parse_help(args)) return 0;
  const std::string word = at == args.size() ? "" : args[at];
  const std::unique_ptr<Lengths> lengths = make_lengths(word);
  tools::Command command("bench prepare-dataset " + word, summary);
  command.options("Requests", lengths->options());
  command.options("Data set", describe(own, source));
  std::vector<std::string> rest(args.begin(), args.end());
  rest.erase(rest.begin() + static_cast<std::ptrdiff_t>(at));
  if (!command.parse(rest)) return 0;
  const tools::OutputFile output{"output", own.output};
  const std::string inputs[] = {source.model, source.tokenizer, command.given("--file")};
  tools::check_outputs({&output, 1}, inputs);
  std::string lines;
  lengths->write(source, static_cast<uint64_t>(own.seed), lines);
  tools::write_file("output", own.output, lines);
  return 0;
}

}  // namespace foveal::bench

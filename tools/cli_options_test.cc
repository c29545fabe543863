#include "cli_options.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <csignal>
#include <functional>
#include <new>
#include <stdexcept>
#include <string>

#include "base/config_fields.h"
#include "base/log.h"
#include "base/test_folder.h"
#include "cli_help.h"
#include "foveal/error.h"
#include "output.h"

namespace foveal::tools {
namespace {

using Args = std::vector<std::string>;

struct Own {
  std::string prompt;
  bool json = false;
  bool stream = true;
  std::optional<int64_t> last;
};

OptionGroup describe_own(Own& own) {
  return {.fields = {{.name = "prompt", .target = &own.prompt, .help = "a text", .required = true},
                     {.name = "json", .target = &own.json, .help = "print JSON"},
                     {.name = "stream", .target = &own.stream, .help = "print as it comes"},
                     {.name = "last", .target = &own.last, .help = "rows", .short_flag = 'l'}}};
}

struct Parsed {
  Own own;
  LlmConfig config;
  SamplingParams sampling;
  bool go_on = false;
};

Parsed parse(const Args& args) {
  Parsed out;
  Command command("run", "Generate.");
  command.options("Run", describe_own(out.own));
  command.llm_config(out.config);
  command.options("Sampling", describe(out.sampling));
  out.go_on = command.parse(args);
  return out;
}

// With what is required, so that the argument under test is the only mistake.
Parsed parse_ok(Args args) {
  args.insert(args.end(), {"--model", "m", "--prompt", "p"});
  return parse(args);
}

std::string error_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kInvalidArgument);
    return error.what();
  }
  return "no error";
}

class CliFile : public testing::Test {
 protected:
  std::string write(const std::string& text) const { return folder_.write("extra.yaml", text); }
  TestFolder folder_;
};

TEST_F(CliFile, CommandLineOverFileOverDefault) {
  const std::string path = write(
      "threads: 2\nprefill_chunk: 64\nmax_batch_size: 3\nkv_cache_config: {dtype: f16, max_tokens: "
      "100}\nsparse_attention_config:\n  algorithm: skip_softmax\n  threshold_scale_factor: "
      "1000\n");
  for (const char* flag : {"--config", "--extra_llm_api_options", "--extra-llm-api-options"}) {
    const Parsed got =
        parse_ok({flag, path, "--prefill-chunk", "128", "--kv-dtype", "f32", "--set", "threads=4",
                  "--set", "kv_cache_config.max_tokens=4096", "--threads", "3", "--set",
                  "sparse_attention_config.threshold_scale_factor.prefill=500"});
    EXPECT_EQ(got.config.prefill_chunk, 128);            // flag over file
    EXPECT_EQ(got.config.threads, 4);                    // --set over flag over file
    EXPECT_EQ(got.config.max_batch_size, 3);             // file over default
    EXPECT_EQ(got.config.max_seq_len, std::nullopt);     // default
    EXPECT_EQ(got.config.kv_cache_config.dtype, "f32");  // flag over one field of a file's object
    EXPECT_EQ(got.config.kv_cache_config.max_tokens, 4096);  // --set, the same
    const auto& sparse =
        std::get<SkipSoftmaxAttentionConfig>(got.config.sparse_attention_config.at(0));
    EXPECT_EQ(sparse.threshold_scale_factor, (PhaseValue{500.0, 1000.0}));
  }
}

TEST_F(CliFile, EmptyFileMeansDefaults) {
  const Parsed got = parse_ok({"--config", write("")});
  EXPECT_TRUE(got.config.sparse_attention_config.empty());
  EXPECT_FALSE(got.config.prefill_chunk);
}

TEST_F(CliFile, ErrorsNameTheFilesLine) {
  const std::string path = write("threads: 2\nprefill_chunk: many\n");
  EXPECT_EQ(error_of([&] { parse_ok({"--config", path}); }),
            "[extra.yaml:2 prefill_chunk] got many; need an integer from 1 to 1048576");
  // A file must be right by itself, whatever overrides it.
  EXPECT_EQ(error_of([&] { parse_ok({"--config", path, "--prefill-chunk=7"}); }),
            "[extra.yaml:2 prefill_chunk] got many; need an integer from 1 to 1048576");
  EXPECT_EQ(error_of([&] { parse_ok({"--config", path, "--config", path}); }),
            "[--config] got 2 files; need one");
  const std::string list = write("- 1\n");
  EXPECT_EQ(error_of([&] { parse_ok({"--config", list}); }),
            "[extra.yaml:1] got a list; need a mapping of fields");
}

TEST(Cli, SetReachesEverything) {
  const Parsed got =
      parse_ok({"--set", "sparse_attention_config.topk=32", "--set",
                "sparse_attention_config.algorithm=rocket", "--set", "kv_cache_config.dtype=bf16",
                "--set", "max_seq_len=null", "--set", "model=from set"});
  EXPECT_EQ(std::get<RocketSparseAttentionConfig>(got.config.sparse_attention_config.at(0)).topk,
            32);
  EXPECT_EQ(got.config.kv_cache_config.dtype, "bf16");
  EXPECT_EQ(got.config.model, "from set");
  const Parsed list =
      parse_ok({"--sparse-attention-config", "[{algorithm: rocket}, {algorithm: skip_softmax}]",
                "--set", "sparse_attention_config.0.topk=7"});
  EXPECT_EQ(std::get<RocketSparseAttentionConfig>(list.config.sparse_attention_config.at(0)).topk,
            7);
  EXPECT_TRUE(parse_ok({"--sparse-attention-config", "{algorithm: rocket}", "--set",
                        "sparse_attention_config=null"})
                  .config.sparse_attention_config.empty());
}

TEST(Cli, ValuesAreTakenLiterally) {
  const Parsed got = parse({"-m",
                            "a b.gguf",
                            "--prompt",
                            "--foo_bar",
                            "--stop",
                            "[a,b]",
                            "--stop=x=y",
                            "--stop-token-ids",
                            "5",
                            "--stop-token-ids",
                            "[6, 7]",
                            "--seed",
                            "18446744073709551615",
                            "--json",
                            "--no-stream",
                            "-l",
                            "3",
                            "--logit-bias",
                            "{15: -2.5}",
                            "--bad_words",
                            "[[1, 2]]",
                            "--temperature=1e-1"});
  EXPECT_TRUE(got.go_on);
  EXPECT_EQ(got.config.model, "a b.gguf");
  EXPECT_EQ(got.own.prompt, "--foo_bar");
  EXPECT_TRUE(got.own.json);
  EXPECT_FALSE(got.own.stream);
  EXPECT_EQ(got.own.last, 3);
  EXPECT_EQ(got.sampling.stop, (std::vector<std::string>{"[a,b]", "x=y"}));
  EXPECT_EQ(got.sampling.stop_token_ids, (std::vector<int32_t>{5, 6, 7}));
  EXPECT_EQ(got.sampling.seed, UINT64_MAX);
  EXPECT_EQ(got.sampling.logit_bias.at(15), -2.5);
  EXPECT_EQ(got.sampling.bad_words.size(), 1U);
  EXPECT_EQ(got.sampling.temperature, 0.1);
  for (const char* prompt : {"-", "-5", "--json", "--", "[x]", "{}", "null", "'q'", "@f", "a\nb"}) {
    EXPECT_EQ(parse({"--model", "m", "--prompt", prompt}).own.prompt, prompt);
  }
}

TEST(Cli, OneLineErrors) {
  const std::pair<Args, std::string> cases[] = {
      {{"--prefil-chunk", "3"},
       "[cli] got '--prefil-chunk'; need --prefill-chunk (see foveal run --help)"},
      {{"--no-such-thing=3"},
       "[cli] got '--no-such-thing'; need a known flag (see foveal run --help)"},
      {{"model.gguf"}, "[cli] got 'model.gguf'; need flags only (see foveal run --help)"},
      {{"--threads", "2", "--threads", "3"}, "[--threads] got 2 values; need one"},
      {{"--threads", "x"}, "[--threads] got x; need an integer from 0 to 1024"},
      {{"--threads", ""}, "[--threads] got an empty value; need an integer from 0 to 1024"},
      {{"--temperature", "-1"}, "[--temperature] got -1; need a number >= 0"},
      {{"--temperature", "nan"}, "[--temperature] got nan; need a number >= 0"},
      {{"--top-p", "0"}, "[--top-p] got 0; need a number above 0 and up to 1"},
      {{"--kv_dtype", "fp4"}, "[--kv-dtype] got 'fp4'; need one of auto, bf16, f16, f32, fp8"},
      {{"--json=maybe"}, "[--json] got maybe; need true or false"},
      {{"--log-level", "loud"}, "[--log-level] got 'loud'; need one of error, warn, info, debug"},
      {{"--set", "threads"},
       "[--set] got 'threads'; need path=value, such as kv_cache_config.max_tokens=4096 "
       "(null: the default)"},
      {{"--set", "a..b=1"}, "[--set] got path 'a..b'; need names joined by dots"},
      {{"--set", "<<={threads: 2}"}, "[--set] got merge key '<<'; need the fields themselves"},
      {{"--set", "kv_cache_config.<<={max_tokens: 2}"},
       "[--set kv_cache_config] got merge key '<<'; need the fields themselves"},
      {{"--set", "kv_cache_config={<<: {max_tokens: 2}}"},
       "[--set kv_cache_config:1] got merge key '<<'; need the fields themselves"},
      {{"--set", "kv_cache_config={max_tokens: [}"},
       "[--set kv_cache_config:1] got a syntax error (illegal flow end); need YAML"},
      {{"--set", "kv_cache_config.max_token=1"},
       "[--set kv_cache_config.max_token] got unknown key; need one of dtype, enable_block_reuse, "
       "max_tokens, free_memory_fraction, tokens_per_block"},
      {{"--set", "device.x=1", "--device", "cpu"},
       "[--set] got path 'device.x' through cpu; need a field that has fields"},
      {{"--set", "sparse_attention_config.algorithm=skip_softmax", "--set",
        "sparse_attention_config.threshold_scale_factor.prefil=500"},
       "[--set sparse_attention_config.threshold_scale_factor.prefil] got unknown key; need one of "
       "prefill, decode"},
      {{"--sparse-attention-config", "{algorithm: rocket, topk: 0}"},
       "[--sparse-attention-config sparse_attention_config.topk] got 0; need an integer from 1 to "
       "2147483647"},
      {{"--min-tokens", "40"}, "[--min-tokens] got 40; need at most max_tokens (32)"},
  };
  for (const auto& [args, message] : cases) {
    EXPECT_EQ(error_of([&, &given = args] { parse_ok(given); }), message);
  }
  EXPECT_EQ(error_of([] { parse({"--model", "m"}); }), "[cli] got no --prompt; need a text");
  EXPECT_EQ(error_of([] { parse({"--prompt", "m"}); }),
            "[cli] got no --model; need a .gguf file or a folder with config.json");
  EXPECT_EQ(error_of([] { parse({"--model"}); }), "[--model] got no value; need text");
  EXPECT_EQ(error_of([] { parse({"-m"}); }), "[--model] got no value; need text");
  EXPECT_EQ(error_of([] { parse({"--sparse-attention-config"}); }),
            "[--sparse-attention-config] got no value; need sparse attention: {algorithm: NAME, "
            "...} or a list of them; NAME: skip_softmax, rocket, dsa");
  EXPECT_EQ(error_of([] { parse({"--kv_dtype"}); }),
            "[--kv-dtype] got no value; need one of auto, bf16, f16, f32, fp8");
}

TEST(Cli, OneCompletionIsAllThatHelpPromises) {
  SamplingParams sampling;
  Command command("run", "Generate.");
  command.options("Sampling", describe_single(sampling));
  EXPECT_NE(command.help().find("1: one completion is shown"), std::string::npos);
  EXPECT_EQ(command.help().find("128"), std::string::npos);
  EXPECT_TRUE(command.parse(std::vector<std::string>{"--n", "1"}));
  EXPECT_EQ(error_of([&] { command.parse(std::vector<std::string>{"--n=2"}); }),
            "[--n] got 2; need 1: one completion is shown");
}

TEST(Cli, HelpNamesEveryField) {
  Own own;
  LlmConfig config;
  SamplingParams sampling;
  Command command("run", "Generate.");
  command.options("Run", describe_own(own));
  command.llm_config(config);
  command.options("Sampling", describe(sampling));
  const std::string help = command.help();
  int leaves = 0;
  for (const OptionGroup& group : {describe_own(own), describe(config), describe(sampling)}) {
    for (const OptionHelp& row : describe_options(group)) {
      const std::string left =
          row.flag.empty() ? row.path.substr(row.path.rfind('.') + 1) : row.flag;
      // As a row of its own: not within another flag's name or text.
      const bool found = help.find(" " + left + "\n") != std::string::npos ||
                         help.find(" " + left + " ") != std::string::npos;
      EXPECT_TRUE(found) << left;
      ++leaves;
    }
  }
  EXPECT_GT(leaves, 60);
  for (const char* name : {"rocket", "dsa", "skip_softmax"}) {
    EXPECT_NE(help.find(fmt::format("\n  sparse_attention_config({})\n", name)), std::string::npos);
  }
  for (const char* row :
       {"--prefill-chunk N", "(default 64; from 1 to", "--log-level TEXT", "-h, --help",
        "--config TEXT", "--set TEXT", "--extra_llm_api_options", "-l, --last N"}) {
    EXPECT_NE(help.find(row), std::string::npos) << row;
  }
  for (size_t begin = 0, end = 0; (end = help.find('\n', begin)) != std::string::npos;
       begin = end + 1) {
    EXPECT_LE(end - begin, 100U) << help.substr(begin, end - begin);
  }
}

TEST(Cli, HelpNeedsNothingElse) {
  testing::internal::CaptureStdout();
  EXPECT_FALSE(parse({"--threads", "x", "--help", "--nonsense"}).go_on);
  EXPECT_FALSE(parse({"-h"}).go_on);
  EXPECT_NE(testing::internal::GetCapturedStdout().find("usage: foveal run [flags]"),
            std::string::npos);
}

TEST(Cli, LogLevel) {
  parse_ok({"--log-level", "debug"});
  EXPECT_EQ(log_level(), LogLevel::kDebug);
  parse_ok({});
  EXPECT_EQ(log_level(), LogLevel::kInfo);
}

TEST(Cli, TwoFieldsWithOneFlagAreABug) {
  Own own;
  SamplingParams sampling;
  Command command("x", "y");
  command.options("A", describe_own(own));
  try {
    command.options("B", describe_own(own));
    FAIL() << "must throw";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kInternal);
  }
}

TEST(Cli, NearestIsNear) {
  EXPECT_EQ(nearest("--thread", {"--threads", "--top-k"}), "--threads");
  EXPECT_EQ(nearest("--zzzzzzzz", {"--threads", "--top-k"}), "");
  EXPECT_EQ(nearest(std::string(100000, 'a'), {"--threads"}), "");
}

int succeed(std::span<const std::string> args) { return args.size() == 1 ? 0 : 7; }
int refuse(std::span<const std::string>) {
  throw Error(ErrorKind::kInvalidArgument, "[x] got 1; need 2");
}
int lose_file(std::span<const std::string>) { throw Error(ErrorKind::kNotFound, "[x] got; need"); }
int lose_reader(std::span<const std::string>) { throw NoReader(ErrorKind::kIo, "[x] got; need"); }
int overflow(std::span<const std::string>) { throw std::bad_alloc(); }
int misbehave(std::span<const std::string>) { throw std::runtime_error("a\nb"); }

TEST(Program, StatusAndOneLine) {
  const CommandEntry commands[] = {{"ok", "", succeed},        {"refuse", "", refuse},
                                   {"lose", "", lose_file},    {"hang-up", "", lose_reader},
                                   {"overflow", "", overflow}, {"misbehave", "", misbehave}};
  const auto run = [&](std::vector<const char*> argv, std::string* line) {
    argv.insert(argv.begin(), "foveal");
    testing::internal::CaptureStderr();
    const int status = run_program(static_cast<int>(argv.size()), argv.data(), "1.2.3", commands);
    *line = testing::internal::GetCapturedStderr();
    return status;
  };
  std::string line;
  EXPECT_EQ(run({"ok", "a"}, &line), 0);
  EXPECT_EQ(line, "");
  EXPECT_EQ(run({"ok"}, &line), 7);
  EXPECT_EQ(run({"refuse"}, &line), 2);
  EXPECT_EQ(line, "[x] got 1; need 2\n");
  EXPECT_EQ(run({"lose"}, &line), 1);
  EXPECT_EQ(run({"hang-up"}, &line), 128 + SIGPIPE);
  EXPECT_EQ(line, "");
  EXPECT_EQ(run({"overflow"}, &line), 1);
  EXPECT_EQ(run({"misbehave"}, &line), 1);
  EXPECT_EQ(line, "[foveal] got an unexpected error (a\\x0ab); need a bug report\n");
  EXPECT_EQ(run({}, &line), 2);
  EXPECT_EQ(line,
            "[cli] got no command; need one of ok, refuse, lose, hang-up, overflow, misbehave (see "
            "foveal --help)\n");
  EXPECT_EQ(run({"okk"}, &line), 2);
  testing::internal::CaptureStdout();
  EXPECT_EQ(run({"--version"}, &line), 0);
  EXPECT_EQ(run({"--help"}, &line), 0);
  const std::string out = testing::internal::GetCapturedStdout();
  EXPECT_EQ(out.find("foveal 1.2.3\n"), 0U);
  EXPECT_NE(out.find("misbehave"), std::string::npos);
}

TEST(Command, FindsTheWordAmongFlags) {
  Own own;
  LlmConfig config;
  Command command("eval", "Measure.");
  command.options("Own", describe_own(own));
  command.llm_config(config);
  const auto at = [&](const Args& args) { return command.find_word(args); };
  EXPECT_EQ(at({"niah"}), 0U);
  EXPECT_EQ(at({"--model", "niah", "kl"}), 2U);
  EXPECT_EQ(at({"--model=niah", "--json", "kl", "--last", "3"}), 2U);
  EXPECT_EQ(at({"-m", "x", "--no-stream", "kl"}), 3U);
  EXPECT_EQ(at({"--extra_llm_api_options", "c.yaml", "kl"}), 2U);
  EXPECT_EQ(at({}), 0U);
  EXPECT_EQ(at({"--json"}), 1U);
  EXPECT_EQ(at({"--model"}), 1U);  // no value: parsing will say so
  EXPECT_NE(error_of([&] { at({"--depths", "3", "kl"}); }).find("'--depths'"), std::string::npos);
}

TEST(Command, ListsWhatWasGiven) {
  Own own;
  LlmConfig config;
  Command command("run", "Generate.");
  command.options("Own", describe_own(own));
  command.llm_config(config);
  ASSERT_TRUE(
      command.parse(Args{"-m", "m", "--prompt", "a b", "--json", "--set", "max_seq_len=9"}));
  using Given = std::vector<std::pair<std::string, std::vector<std::string>>>;
  EXPECT_EQ(command.given(), (Given{{"--prompt", {"a b"}},
                                    {"--json", {"true"}},
                                    {"--set", {"max_seq_len=9"}},
                                    {"--model", {"m"}}}));
}

}  // namespace
}  // namespace foveal::tools

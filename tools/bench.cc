#include "bench/bench.h"

#include <fmt/format.h>

#include <array>

#include "base/check.h"
#include "cli_options.h"
#include "commands.h"
#include "trtllm_flags.h"

namespace foveal::tools {
namespace {

constexpr std::array<CommandEntry, 6> kBenches{{
    {"throughput", "many requests at once", bench::throughput_main},
    {"latency", "one request after the other", bench::latency_main},
    {"serve", "requests to a server, at a rate", bench::serve_bench_main},
    {"kernels", "attention, top-k and matrix products alone", bench::kernels_main},
    {"prepare-dataset", "write requests to a .jsonl file", bench::prepare_main},
    {"compare", "two configurations in turns, with an interval", bench::compare_main},
}};

std::string bench_help() {
  std::string out = "Measure how fast a model is.";
  for (const CommandEntry& entry : kBenches) {
    out += fmt::format("\n  {:<16} {}", entry.name, entry.summary);
  }
  return out + "\nfoveal bench NAME --help lists its flags.";
}

}  // namespace

int bench_main(std::span<const std::string> args) {
  LlmConfig config;
  Command group("bench", bench_help());
  TrtllmFlags trtllm;
  TrtllmBenchFlags trtllm_bench;
  group.options("As for trtllm-bench", describe(trtllm));
  group.options("As for trtllm-bench alone", describe(trtllm_bench));
  group.llm_config(config);
  const size_t at = group.find_word(args);
  if (at == args.size() && group.parse_help(args)) return 0;
  const std::string word = at == args.size() ? "" : args[at];
  std::string names;
  for (const CommandEntry& entry : kBenches) {
    names += fmt::format("{}{}", names.empty() ? "" : ", ", entry.name);
    if (entry.name != word) continue;
    std::vector<std::string> rest(args.begin(), args.end());
    rest.erase(rest.begin() + static_cast<std::ptrdiff_t>(at));
    return entry.main(rest);
  }
  fail(ErrorKind::kInvalidArgument, "bench", "got {}; need one of {}",
       word.empty() ? "no command" : fmt::format("'{}'", word), names);
}

}  // namespace foveal::tools

// One engine, held at a depth and timed on demand, so that two engines can take turns within
// seconds.
//
//   bench_model --model FILE --token-ids @ids.json --threads 2 [--sparse-attention-config YAML]
//
// Reads one command a line from standard input and answers each with a line of JSON:
//   prepare D    keep the first D tokens in the prefix cache (D in whole pages)
//   prefill N    time N tokens after them; only they are computed, and the first is new each time
//   decode N     time N one-token steps after them
//   verify       recompute the last prefill and decode without the prefix cache: same tokens?

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cstdio>
#include <iostream>
#include <memory>
#include <sstream>

#include "base/check.h"
#include "cli_options.h"
#include "foveal/llm.h"
#include "input.h"

namespace foveal::bench {
namespace {

std::string share(const PhaseSparsity& phase) { return fmt::format("{:.6f}", phase.skipped()); }

class Session {
 public:
  Session(LlmConfig config, std::vector<int32_t> tokens)
      : config_(std::move(config)),
        tokens_(std::move(tokens)),
        llm_(std::make_unique<LLM>(config_)) {}

  std::string prepare(int64_t depth) {
    FOVEAL_CHECK(depth >= 0 && depth < llm_->max_seq_len(), ErrorKind::kInvalidArgument, "prepare",
                 "got {}; need 0 to {}", depth, llm_->max_seq_len() - 1);
    depth_ = depth;
    if (depth > 0) llm_->generate(prompt(depth), {.max_tokens = 0});
    return fmt::format("{{\"depth\": {}}}", depth);
  }

  std::string prefill(int64_t count) {
    // The last position is left for the token that the prompt's last row yields.
    count = std::min(count, llm_->max_seq_len() - 1 - depth_);
    const RequestOutput out = run_cached(1, [&] {
      last_prefill_ = prompt(depth_ + count);
      // The tail must differ from all before it, or the prefix cache would answer.
      (*last_prefill_.token_ids)[static_cast<size_t>(depth_)] = 1000 + runs_++;
      return last_prefill_;
    });
    prefill_tokens_ = out.outputs.at(0).token_ids;
    return fmt::format("{{\"ms\": {:.4f}, \"rows\": {}, \"tokens\": {}, \"skipped\": {}}}",
                       out.timings.ttft_ms, count, prefill_tokens_,
                       share(out.sparsity.total().prefill));
  }

  std::string decode(int64_t count) {
    // What the prefix cache had of the prompt changes no decode step.
    last_decode_ = prompt(depth_ + 1);
    const RequestOutput out =
        llm_->generate(last_decode_, {.max_tokens = count + 1, .ignore_eos = true});
    decode_tokens_ = out.outputs.at(0).token_ids;
    return fmt::format("{{\"ms\": {:.4f}, \"rows\": {}, \"tokens\": {}, \"skipped\": {}}}",
                       out.timings.decode_ms, out.timings.decode_tokens, decode_tokens_,
                       share(out.sparsity.total().decode));
  }

  std::string verify() {
    if (!fresh_) {
      LlmConfig config = config_;
      config.kv_cache_config.enable_block_reuse = false;
      fresh_ = std::make_unique<LLM>(config);
    }
    same(last_prefill_, prefill_tokens_, "prefill");
    same(last_decode_, decode_tokens_, "decode");
    return "{\"same\": true}";
  }

 private:
  Prompt prompt(int64_t count) const {
    std::vector<int32_t> ids;
    for (int64_t idx = 0; idx < count; ++idx) {
      ids.push_back(tokens_[static_cast<size_t>(idx) % tokens_.size()]);
    }
    return {.token_ids = std::move(ids)};
  }

  /// A run of which the first `depth_` tokens were cached. Prompts of different lengths share no
  /// pages where the method's result depends on the length; then a first run leaves them behind.
  template <class MakePrompt>
  RequestOutput run_cached(int64_t max_tokens, MakePrompt make_prompt) {
    const SamplingParams sampling{.max_tokens = max_tokens, .ignore_eos = true};
    RequestOutput out = llm_->generate(make_prompt(), sampling);
    if (out.cached_tokens != depth_) out = llm_->generate(make_prompt(), sampling);
    FOVEAL_CHECK(out.cached_tokens == depth_, ErrorKind::kInternal, "bench",
                 "got {} tokens from the prefix cache; need {}", out.cached_tokens, depth_);
    return out;
  }

  void same(const Prompt& asked, const std::vector<int32_t>& tokens, const char* what) {
    if (!asked.token_ids) return;
    const auto count = static_cast<int64_t>(tokens.size());
    const auto fresh = fresh_->generate(asked, {.max_tokens = count, .ignore_eos = true});
    FOVEAL_CHECK(fresh.outputs.at(0).token_ids == tokens, ErrorKind::kInternal, what,
                 "got tokens {}; need {} as without the prefix cache", tokens,
                 fresh.outputs.at(0).token_ids);
  }

  LlmConfig config_;
  std::vector<int32_t> tokens_;
  std::unique_ptr<LLM> llm_;
  std::unique_ptr<LLM> fresh_;  ///< without a prefix cache, for verify
  int64_t depth_ = 0;
  int32_t runs_ = 0;
  Prompt last_prefill_;
  Prompt last_decode_;
  std::vector<int32_t> prefill_tokens_;
  std::vector<int32_t> decode_tokens_;
};

std::string answer(Session& session, const std::string& line) {
  std::istringstream words(line);
  std::string name;
  int64_t count = -1;
  words >> name >> count;
  if (name == "verify") return session.verify();
  FOVEAL_CHECK(count >= 0 && count < 1 << 20, ErrorKind::kInvalidArgument, "command",
               "got '{}'; need prepare, prefill or decode with a number, or verify", line);
  if (name == "prepare") return session.prepare(count);
  if (name == "prefill") return session.prefill(count);
  if (name == "decode") return session.decode(count);
  fail(ErrorKind::kInvalidArgument, "command", "got '{}'; need a known command", line);
}

int bench_main(std::span<const std::string> args) {
  std::string ids;
  LlmConfig config;
  // Room for every variant of a prompt, so that none pushes the shared prefix out.
  config.kv_cache_config.max_tokens = 65536;
  tools::Command command("model", "Time prefill and decode at a depth, on demand.");
  command.options("Bench", {.fields = {{.name = "token_ids",
                                        .target = &ids,
                                        .help = "the text's ids: \"1,2,3\", or @FILE",
                                        .required = true}}});
  command.llm_config(config);
  if (!command.parse(args)) return 0;
  Session session(config, tools::parse_token_ids(ids));
  std::string line;
  while (std::getline(std::cin, line)) {
    fmt::print("{}\n", answer(session, line));
    std::fflush(stdout);
  }
  return 0;
}

}  // namespace
}  // namespace foveal::bench

int main(int argc, char** argv) {
  const foveal::tools::CommandEntry entry{"model", "Time one engine.", foveal::bench::bench_main};
  return foveal::tools::run_program(argc, argv, "bench", {&entry, 1});
}

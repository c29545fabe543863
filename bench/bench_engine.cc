// The whole engine at given batch sizes and contexts: decode tokens a second, beside what reading
// weights and cache once a token allows, the host's gap between steps, and prefill.
//
//   bench_engine --model bench/configs/Llama-3.1-8B --load-format dummy --device cuda
//                --batch 1 --batch 32 --context 1024 --context 32768 [--tokens 128]
//                [--bandwidth 3.0] [--flops 800]
//
// One line of JSON for each pair. Prompts are random ids and differ, so that no page is shared.
// The bound counts every weight but the embedding table, and K and V of every token before the one
// that is made; --bandwidth is the measured one in TB/s. Prefill's counts 2 FLOPs a weight and
// token and the lower triangle of attention, at --flops TFLOP/s.

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <memory>
#include <random>

#include "base/check.h"
#include "cli_options.h"
#include "foveal/llm.h"
#include "input.h"
#include "model/dummy_checkpoint.h"

namespace foveal::bench {
namespace {

using Clock = std::chrono::steady_clock;

struct Options {
  std::vector<int32_t> batch{1};
  std::vector<int32_t> context{1024};
  int64_t tokens = 128;
  double bandwidth = 0;  ///< TB/s
  double flops = 0;      ///< TFLOP/s
};

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

std::vector<int32_t> random_prompt(int32_t length, int32_t vocab, std::mt19937& rng) {
  std::vector<int32_t> ids(static_cast<size_t>(length));
  for (int32_t& id : ids) id = static_cast<int32_t>(rng() % static_cast<uint32_t>(vocab));
  return ids;
}

struct Measured {
  double decode_seconds = 0;   ///< of a step
  double gap_us = 0;           ///< of the host, between a step's tokens and the next launch
  double prefill_seconds = 0;  ///< of the first prompt alone
};

class Bench {
 public:
  Bench(const LlmConfig& config, Options options)
      : options_(std::move(options)),
        checkpoint_(model::open_dummy_checkpoint(config.model, config.num_layers,
                                                 model::DummyData::kDevice)),
        llm_(config) {}

  void run(int32_t batch, int32_t context) {
    const ModelInfo info = llm_.info();
    // A request's last page may be filled in part.
    const int64_t need = int64_t{batch} * (context + options_.tokens + 128);
    if (need > info.kv_tokens || context + options_.tokens > info.max_seq_len) {
      fmt::print("{{\"batch\": {}, \"context\": {}, \"skipped\": \"the cache holds {} tokens\"}}\n",
                 batch, context, info.kv_tokens);
      return;
    }
    measure(batch, 64, 8);  // sizes are chosen, steps recorded
    const Measured measured = measure(batch, context, options_.tokens);
    report(batch, context, measured);
  }

 private:
  /// Weights that a step of `batch` tokens reads: of experts, those that random choices would hit.
  int64_t read_weights(int32_t batch) const {
    const model::ModelConfig& config = checkpoint_->config();
    int64_t count = int64_t{config.vocab_size} * config.hidden_size;  // the output matrix
    for (const std::string& name : checkpoint_->names()) {
      const TensorView& tensor = *checkpoint_->find(name);
      if (!name.starts_with("model.layers.")) continue;
      double share = 1;
      if (tensor.shape.size() == 3) {
        const double missed = 1 - double{1} * config.experts_per_token / config.num_experts;
        share = 1 - std::pow(missed, batch);
      }
      count += static_cast<int64_t>(share * static_cast<double>(tensor.num_elements()));
    }
    return count;
  }

  Measured measure(int32_t batch, int32_t context, int64_t tokens) {
    SamplingParams sampling{.max_tokens = tokens, .ignore_eos = true};
    const auto vocab = static_cast<int32_t>(llm_.info().vocab_size);
    std::vector<Prompt> prompts;
    for (int32_t idx = 0; idx < batch; ++idx) {
      prompts.push_back({.token_ids = random_prompt(context, vocab, rng_)});
    }
    Measured out;
    SamplingParams only_prompt{.max_tokens = 1, .ignore_eos = true};
    const Clock::time_point start = Clock::now();
    llm_.generate({.token_ids = random_prompt(context, vocab, rng_)}, only_prompt);
    out.prefill_seconds = seconds_since(start);
    // Prompts first, each into the prefix index; then all decode at once, after one row of prompt.
    for (const Prompt& prompt : prompts) llm_.generate(prompt, only_prompt);
    run_all(prompts, 6);  // records the steps of this context
    std::vector<Generation> running;
    const EngineStats before = llm_.stats();
    for (const Prompt& prompt : prompts) running.push_back(llm_.submit(prompt, sampling));
    double seconds = 0;
    for (Generation& generation : running) {
      const RequestOutput output = generation.result();
      seconds = std::max(
          seconds, output.timings.decode_ms / 1000 /
                       static_cast<double>(std::max<int64_t>(1, output.timings.decode_tokens)));
    }
    const EngineStats after = llm_.stats();
    out.decode_seconds = seconds;
    const auto gaps = static_cast<double>(after.host_gaps - before.host_gaps);
    if (gaps > 0)
      out.gap_us = static_cast<double>(after.host_gap_ns - before.host_gap_ns) / gaps / 1e3;
    return out;
  }

  void run_all(const std::vector<Prompt>& prompts, int64_t tokens) {
    std::vector<Generation> running;
    for (const Prompt& prompt : prompts) {
      running.push_back(llm_.submit(prompt, {.max_tokens = tokens, .ignore_eos = true}));
    }
    for (Generation& generation : running) generation.result();
  }

  void report(int32_t batch, int32_t context, const Measured& measured) const {
    const ModelInfo info = llm_.info();
    const double length = context + static_cast<double>(options_.tokens) / 2;
    const double bytes = static_cast<double>(read_weights(batch)) * 2 +
                         batch * length * static_cast<double>(info.kv_bytes_per_token);
    std::string line = fmt::format(
        "{{\"batch\": {}, \"context\": {}, \"step_ms\": {:.4f}, \"tokens_per_second\": {:.1f}, "
        "\"read_gb\": {:.2f}, \"tb_per_second\": {:.3f}, \"host_gap_us\": {:.1f}, "
        "\"prefill_ms\": {:.2f}, \"prefill_tokens_per_second\": {:.0f}",
        batch, context, measured.decode_seconds * 1e3, batch / measured.decode_seconds, bytes / 1e9,
        bytes / measured.decode_seconds / 1e12, measured.gap_us, measured.prefill_seconds * 1e3,
        context / measured.prefill_seconds);
    if (options_.bandwidth > 0) {
      line += fmt::format(", \"of_bandwidth_bound\": {:.3f}",
                          bytes / (options_.bandwidth * 1e12) / measured.decode_seconds);
    }
    if (options_.flops > 0) {
      const model::ModelConfig& model = checkpoint_->config();
      const double width = double{1} * model.num_heads * model.head_dim * model.num_layers;
      const double flops = 2.0 * context * static_cast<double>(read_weights(1)) +
                           2.0 * context * static_cast<double>(context) * width;
      line += fmt::format(", \"of_flops_bound\": {:.3f}",
                          flops / (options_.flops * 1e12) / measured.prefill_seconds);
    }
    fmt::print("{}}}\n", line);
    std::fflush(stdout);
  }

  Options options_;
  std::unique_ptr<model::Checkpoint> checkpoint_;  ///< for its shapes
  LLM llm_;
  std::mt19937 rng_{1};
};

int bench_main(std::span<const std::string> args) {
  Options options;
  LlmConfig config;
  config.load_format = "dummy";
  config.sparsity_counters = false;
  tools::Command command("engine", "Time decode and prefill of the whole engine.");
  command.options(
      "Bench",
      {.fields = {
           {.name = "batch", .target = &options.batch, .help = "requests at once; may be repeated"},
           {.name = "context",
            .target = &options.context,
            .help = "tokens of each prompt; may be repeated"},
           {.name = "tokens",
            .target = &options.tokens,
            .help = "tokens to decode",
            .range = {.min = 2}},
           {.name = "bandwidth",
            .target = &options.bandwidth,
            .help = "measured read bandwidth in TB/s"},
           {.name = "flops", .target = &options.flops, .help = "measured bf16 TFLOP/s"}}});
  command.llm_config(config);
  if (!command.parse(args)) return 0;
  Bench bench(config, options);
  for (const int32_t batch : options.batch) {
    for (const int32_t context : options.context) bench.run(batch, context);
  }
  return 0;
}

}  // namespace
}  // namespace foveal::bench

int main(int argc, char** argv) {
  const foveal::tools::CommandEntry entry{"engine", "Time the engine.", foveal::bench::bench_main};
  std::vector<const char*> args(argv, argv + argc);
  args.insert(args.begin() + 1, "engine");  // its one command
  return foveal::tools::run_program(argc + 1, args.data(), "bench", {&entry, 1});
}

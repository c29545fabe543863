#include <fmt/format.h>

#include <iterator>

#include "foveal/version.h"
#include "server/routes.h"

namespace foveal::server {
namespace {

constexpr size_t kLayerGroups = 4;

void header(std::string& out, std::string_view name, std::string_view type, std::string_view help) {
  fmt::format_to(std::back_inserter(out), "# HELP {} {}\n# TYPE {} {}\n", name, help, name, type);
}

void number(std::string& out, std::string_view name, std::string_view type, auto value,
            std::string_view help) {
  header(out, name, type, help);
  fmt::format_to(std::back_inserter(out), "{} {}\n", name, value);
}

/// A label's value is ours or an operator's.
std::string label(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += c == '\n' ? ' ' : c;
  }
  return out;
}

void write_requests(std::string& out, const Metrics& metrics) {
  header(out, "foveal_requests_total", "counter", "Answered requests by route and HTTP status");
  for (const auto& [key, count] : metrics.requests()) {
    fmt::format_to(std::back_inserter(out),
                   "foveal_requests_total{{route=\"{}\",status=\"{}\"}} {}\n", key.first,
                   key.second, count);
  }
  header(out, "foveal_generations_total", "counter", "Ended completions by outcome");
  for (const auto& [outcome, count] : metrics.generations()) {
    fmt::format_to(std::back_inserter(out), "foveal_generations_total{{outcome=\"{}\"}} {}\n",
                   outcome, count);
  }
}

void write_engine(std::string& out, const EngineStats& stats) {
  number(out, "foveal_requests_running", "gauge", stats.running, "Completions in the batch");
  number(out, "foveal_requests_waiting", "gauge", stats.waiting, "Completions waiting to start");
  header(out, "foveal_kv_pages", "gauge", "Pages of the key-value cache by state");
  fmt::format_to(std::back_inserter(out),
                 "foveal_kv_pages{{state=\"used\"}} {}\nfoveal_kv_pages{{state=\"cached\"}} {}\n"
                 "foveal_kv_pages{{state=\"free\"}} {}\n",
                 stats.kv_pages_used, stats.kv_pages_cached,
                 stats.kv_pages_total - stats.kv_pages_used - stats.kv_pages_cached);
  number(out, "foveal_kv_pages_capacity", "gauge", stats.kv_pages_total, "Pages in all");
  number(out, "foveal_kv_page_tokens", "gauge", stats.page_size, "Tokens of a page");
  number(out, "foveal_steps_total", "counter", stats.steps, "Steps of the engine");
  number(out, "foveal_preemptions_total", "counter", stats.preemptions,
         "Times a request gave its pages back and started again");
  number(out, "foveal_prompt_tokens_total", "counter", stats.prompt_tokens,
         "Prompt tokens of started requests");
  number(out, "foveal_cached_tokens_total", "counter", stats.cached_tokens,
         "Of these, found in the prefix cache");
  number(out, "foveal_generated_tokens_total", "counter", stats.generated_tokens,
         "Tokens generated");
}

std::string counter_line(std::string_view name, std::string_view phase, size_t first, size_t last,
                         uint64_t value) {
  return fmt::format("{}{{phase=\"{}\",layers=\"{}-{}\"}} {}\n", name, phase, first, last, value);
}

/// One counter of PhaseSparsity as a metric.
struct Counter {
  std::string_view name;
  std::string_view help;
  uint64_t PhaseSparsity::* value;
};
constexpr Counter kCounters[] = {
    {"foveal_attention_pairs_total",
     "Query-key pairs that dense attention would use, by phase and group of layers",
     &PhaseSparsity::pairs},
    {"foveal_attention_pairs_used_total", "Of these, pairs whose V was used",
     &PhaseSparsity::pairs_used},
    {"foveal_attention_blocks_total",
     "Blocks that a method decided about: Skip Softmax's tiles, RocketKV's pages a KV head",
     &PhaseSparsity::blocks},
    {"foveal_attention_blocks_read_total", "Of these, blocks that were read",
     &PhaseSparsity::blocks_read},
};

void write_sparsity(std::string& out, const SparsityReport& report) {
  const size_t count = report.layers.size();
  const size_t groups = std::min(kLayerGroups, count);
  for (const Counter& counter : kCounters) {
    header(out, counter.name, "counter", counter.help);
    for (size_t group = 0; group < groups; ++group) {
      const size_t first = group * count / groups;
      const size_t end = (group + 1) * count / groups;
      LayerSparsity sum;
      for (size_t layer = first; layer < end; ++layer) {
        sum.prefill.add(report.layers[layer].prefill);
        sum.decode.add(report.layers[layer].decode);
      }
      out += counter_line(counter.name, "prefill", first, end - 1, sum.prefill.*counter.value);
      out += counter_line(counter.name, "decode", first, end - 1, sum.decode.*counter.value);
    }
  }
  number(out, "foveal_read_prompt_tokens_total", "counter", report.prompt_tokens,
         "Prompt tokens of requests whose prompt was read");
  number(out, "foveal_kept_prompt_tokens_total", "counter", report.kept_tokens,
         "Of these, tokens that decode can reach");
}

}  // namespace

HttpResponse answer_metrics(Service& service, const HttpRequest&) {
  std::string out;
  const ModelInfo info = service.llm().info();
  const EngineStats stats = service.llm().stats();
  header(out, "foveal_build_info", "gauge", "What runs");
  fmt::format_to(std::back_inserter(out),
                 "foveal_build_info{{version=\"{}\",model=\"{}\",device=\"{}\",method=\"{}\"}} 1\n",
                 kVersion, label(info.name), label(info.device), label(info.method));
  write_requests(out, service.metrics());
  number(out, "foveal_completions_in_flight", "gauge", service.in_flight(),
         "Completions accepted and not yet answered");
  write_engine(out, stats);
  write_sparsity(out, stats.sparsity);
  const Metrics& metrics = service.metrics();
  metrics.first_token.write(out, "foveal_time_to_first_token_seconds",
                            "From a request's arrival to its first token");
  metrics.inter_token.write(out, "foveal_inter_token_seconds",
                            "Between two tokens of a completion");
  metrics.whole.write(out, "foveal_request_seconds", "From a request's arrival to its end");
  return {.body = std::move(out), .content_type = "text/plain; version=0.0.4; charset=utf-8"};
}

}  // namespace foveal::server

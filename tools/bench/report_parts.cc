#include "bench/report_parts.h"

#include <fmt/format.h>

#include "measure/statistics.h"

namespace foveal::bench {
namespace {

using tools::JsonWriter;

void write_percentiles(JsonWriter& json, std::string_view key, const std::vector<double>& values) {
  json.key(key).begin_object();
  json.field("minimum", measure::percentile(values, 0));
  json.field("maximum", measure::percentile(values, 1));
  json.field("average", measure::average(values));
  for (const int share : {50, 90, 95, 99}) {
    json.field(fmt::format("p{}", share), measure::percentile(values, share / 100.0));
  }
  json.end_object();
}

}  // namespace

Totals totals_of(const LoadResult& load) {
  Totals out;
  for (const Measured& one : load.requests) {
    out.input += static_cast<double>(one.input_tokens);
    out.output += static_cast<double>(one.output_tokens);
    out.cached += one.cached_tokens;
    out.latency.push_back(one.latency_ms);
    out.ttft.push_back(one.ttft_ms);
    if (one.output_tokens > 1) {
      out.tpot.push_back(one.tpot_ms);
      out.speed.push_back(1000 / one.tpot_ms);
    }
    out.gaps.insert(out.gaps.end(), one.gaps_ms.begin(), one.gaps_ms.end());
    out.per_user.push_back(1000 * static_cast<double>(one.output_tokens) / one.latency_ms);
    out.kv_held.push_back(static_cast<double>(one.memory.kv_bytes));
    out.kv_peak.push_back(static_cast<double>(one.memory.kv_peak_bytes));
    out.sparsity.method = one.sparsity.method;
    out.sparsity.add(one.sparsity);
  }
  return out;
}

void write_performance(JsonWriter& json, const LoadResult& load, const Totals& totals) {
  const double seconds = load.total_ms / 1000;
  const auto count = static_cast<double>(load.requests.size());
  json.key("request_info").begin_object();
  json.field("num_requests", static_cast<int64_t>(load.requests.size()));
  json.field("avg_num_concurrent_requests", load.in_flight);
  json.field("avg_input_length", totals.input / count);
  json.field("avg_output_length", totals.output / count);
  json.field("cached_input_tokens", totals.cached).end_object();
  json.key("performance").begin_object();
  json.field("total_latency_ms", load.total_ms);
  json.field("avg_request_latency_ms", measure::average(totals.latency));
  json.field("request_throughput_req_s", count / seconds);
  json.field("system_output_throughput_tok_s", totals.output / seconds);
  json.field("system_total_throughput_tok_s", (totals.input + totals.output) / seconds);
  json.field("output_throughput_per_user_tok_s", measure::average(totals.per_user));
  json.field("output_throughput_per_gpu_tok_s", totals.output / seconds);
  write_percentiles(json, "request_latency_percentiles_ms", totals.latency);
  json.end_object();
}

void write_streaming(JsonWriter& json, const Totals& totals) {
  json.key("streaming_metrics").begin_object();
  json.field("token_output_speed_tok_s", measure::average(totals.speed));
  json.field("avg_ttft_ms", measure::average(totals.ttft));
  json.field("avg_tpot_ms", measure::average(totals.tpot));
  write_percentiles(json, "ttft_percentiles", totals.ttft);
  write_percentiles(json, "tpot_percentiles", totals.tpot);
  if (!totals.gaps.empty()) {
    json.field("avg_itl_ms", measure::average(totals.gaps));
    write_percentiles(json, "itl_percentiles", totals.gaps);
  }
  write_percentiles(json, "gen_tps_percentiles", totals.per_user);
  json.end_object();
}

void write_failures(JsonWriter& json, const LoadResult& load) {
  json.key("failures").begin_array();
  for (const Failure& failure : load.failures) {
    json.begin_object().field("id", std::string_view(failure.id));
    json.field("error", std::string_view(failure.error)).end_object();
  }
  json.end_array();
}

std::string text_line(std::string_view label, std::string_view value) {
  return fmt::format("{:<55}{}\n", fmt::format("{}:", label), value);
}

std::string performance_text(const LoadResult& load, const Totals& totals) {
  const double seconds = load.total_ms / 1000;
  std::string out = text_line("Number of requests", fmt::format("{}", load.requests.size()));
  const auto line = [&](std::string_view label, double value) {
    out += text_line(label, fmt::format("{:.4f}", value));
  };
  if (!load.failures.empty()) {
    out += text_line("Failed requests", fmt::format("{}", load.failures.size()));
  }
  if (load.requests.empty()) return out;
  line("Request Throughput (req/sec)", static_cast<double>(load.requests.size()) / seconds);
  line("Total Output Throughput (tokens/sec)", totals.output / seconds);
  line("Total Token Throughput (tokens/sec)", (totals.input + totals.output) / seconds);
  line("Total Latency (ms)", load.total_ms);
  line("Average request latency (ms)", measure::average(totals.latency));
  line("Per User Output Throughput [w/ ctx] (tps/user)", measure::average(totals.per_user));
  line("Per GPU Output Throughput (tps/gpu)", totals.output / seconds);
  line("Average time-to-first-token [TTFT] (ms)", measure::average(totals.ttft));
  line("Average time-per-output-token [TPOT] (ms)", measure::average(totals.tpot));
  if (!totals.gaps.empty()) {
    line("Average time between pieces [ITL] (ms)", measure::average(totals.gaps));
  }
  line("Per User Output Speed (tps/user)", measure::average(totals.speed));
  return out;
}

}  // namespace foveal::bench

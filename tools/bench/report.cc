#include "bench/report.h"

#include <fmt/format.h>
#include <unistd.h>

#include <fstream>

#include "base/check.h"
#include "base/dtype.h"
#include "bench/report_parts.h"
#include "foveal/version.h"
#include "json_writer.h"
#include "measure/statistics.h"

namespace foveal::bench {
namespace {

using tools::JsonWriter;

std::string cpu_name() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    const size_t colon = line.find(':');
    if (line.starts_with("model name") && colon + 2 < line.size()) return line.substr(colon + 2);
  }
  return "unknown";
}

void write_engine(JsonWriter& json, const LLM& llm, const ReportOptions& options) {
  const ModelInfo info = llm.info();
  json.key("engine").begin_object();
  json.field("model", std::string_view(info.name));
  json.field("model_path", std::string_view(options.config.model));
  json.field("version", kVersion).field("backend", "foveal");
  json.field("architecture", std::string_view(info.architecture));
  json.field("dtype", std::string_view(options.config.compute_dtype));
  json.field("kv_cache_dtype", std::string_view(info.kv_dtype));
  json.field("attention", std::string_view(info.attention));
  json.field("load_ms", info.load_ms).end_object();
  json.key("machine").begin_object();
  json.field("name", std::string_view(info.device == "cpu" ? cpu_name() : info.device));
  json.field("memory.total", static_cast<int64_t>(sysconf(_SC_PHYS_PAGES)) * sysconf(_SC_PAGESIZE));
  json.field("isa", std::string_view(info.isa)).field("threads", info.threads).end_object();
  json.key("world_info").begin_object();
  for (const char* size : {"tp_size", "pp_size", "ep_size", "world_size"}) json.field(size, 1);
  json.field("max_batch_size", options.config.max_batch_size);
  json.field("max_seq_len", info.max_seq_len);
  json.field("kv_tokens", info.kv_tokens).end_object();
}

int64_t element_bytes(std::string_view kv_dtype) {
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16, DType::kF8E4M3}) {
    if (dtype_name(dtype) == kv_dtype) return dtype_info(dtype).bytes;
  }
  fail(ErrorKind::kInternal, "bench", "got a cache of {}; need its size", kv_dtype);
}

// A pair that is left out saves a multiply-add for each of V's elements, and where all query heads
// of a KV head leave out a key, as decode's tiles and pages do, reading its V.
void write_phase(JsonWriter& json, std::string_view key, const PhaseSparsity& phase,
                 const ModelInfo& info) {
  const uint64_t left_out = phase.pairs - phase.pairs_used;
  json.key(key).begin_object().field("skipped", phase.skipped());
  json.field("pairs", static_cast<int64_t>(phase.pairs));
  json.field("pairs_used", static_cast<int64_t>(phase.pairs_used));
  json.field("pv_flops_saved",
             2.0 * static_cast<double>(left_out) * static_cast<double>(info.head_dim));
  if (key == "decode") {
    const int64_t row = info.head_dim * element_bytes(info.kv_dtype);
    const auto group = static_cast<double>(info.num_heads) / static_cast<double>(info.num_kv_heads);
    json.field("v_bytes_saved", static_cast<double>(left_out) * static_cast<double>(row) / group);
  }
  json.end_object();
}

void write_sparsity(JsonWriter& json, const LLM& llm, const Totals& totals) {
  const ModelInfo info = llm.info();
  const LayerSparsity total = totals.sparsity.total();
  json.key("sparsity").begin_object();
  json.field("method", std::string_view(totals.sparsity.method));
  write_phase(json, "prefill", total.prefill, info);
  write_phase(json, "decode", total.decode, info);
  json.key("layers").begin_array();
  for (const LayerSparsity& layer : totals.sparsity.layers) {
    json.begin_object().field("prefill", layer.prefill.skipped());
    json.field("decode", layer.decode.skipped()).end_object();
  }
  json.end_array();
  json.field("kv_bytes_per_token", info.kv_bytes_per_token);
  json.field("avg_kv_bytes", measure::average(totals.kv_held));
  json.field("avg_kv_peak_bytes", measure::average(totals.kv_peak));
  json.field("kv_pool_bytes", info.kv_bytes).end_object();
}

}  // namespace

std::string report_json(const LLM& llm, const LoadResult& load, const ReportOptions& options) {
  const Totals totals = totals_of(load);
  JsonWriter json;
  json.begin_object().field("command", std::string_view(options.command));
  write_engine(json, llm, options);
  if (!load.requests.empty()) {
    write_performance(json, load, totals);
    if (options.streaming) write_streaming(json, totals);
    write_sparsity(json, llm, totals);
  }
  write_failures(json, load);
  json.field("dataset", std::string_view(options.dataset)).end_object();
  return json.text() + "\n";
}

std::string report_text(const LLM& llm, const LoadResult& load) {
  const Totals totals = totals_of(load);
  std::string out = performance_text(load, totals);
  if (load.requests.empty()) return out;
  const LayerSparsity total = totals.sparsity.total();
  return out + text_line("Left out by attention",
                         fmt::format("{}: {:.1f} % of prefill, {:.1f} % of decode", llm.method(),
                                     100 * total.prefill.skipped(), 100 * total.decode.skipped()));
}

std::string requests_json(const LoadResult& load) {
  JsonWriter json;
  json.begin_array();
  for (const Measured& one : load.requests) {
    json.begin_object().field("task_id", std::string_view(one.task_id));
    json.field("input_tokens", one.input_tokens).field("output_tokens", one.output_tokens);
    json.field("cached_tokens", one.cached_tokens).field("ttft_ms", one.ttft_ms);
    json.field("tpot_ms", one.tpot_ms).field("latency_ms", one.latency_ms);
    const LayerSparsity total = one.sparsity.total();
    json.field("prefill_skipped", total.prefill.skipped());
    json.field("decode_skipped", total.decode.skipped());
    json.field("kv_peak_bytes", one.memory.kv_peak_bytes).end_object();
  }
  json.end_array();
  return json.text() + "\n";
}

std::string outputs_json(const LLM& llm, const LoadResult& load) {
  JsonWriter json;
  json.begin_array();
  for (const Measured& one : load.requests) {
    json.begin_object().field("task_id", std::string_view(one.task_id));
    if (llm.has_tokenizer()) json.field("text", std::string_view(llm.decode(one.token_ids)));
    json.key("token_ids").begin_array();
    for (const int32_t id : one.token_ids) json.value(id);
    json.end_array().end_object();
  }
  json.end_array();
  return json.text() + "\n";
}

std::string requests_csv(const LoadResult& load) {
  std::string out =
      "input_tokens,output_tokens,cached_tokens,ttft_ms,tpot_ms,latency_ms,prefill_skipped,"
      "decode_skipped\n";
  for (const Measured& one : load.requests) {
    const LayerSparsity total = one.sparsity.total();
    out += fmt::format("{},{},{},{},{},{},{},{}\n", one.input_tokens, one.output_tokens,
                       one.cached_tokens, one.ttft_ms, one.tpot_ms, one.latency_ms,
                       total.prefill.skipped(), total.decode.skipped());
  }
  return out;
}

}  // namespace foveal::bench

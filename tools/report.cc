#include "report.h"

#include <fmt/format.h>
#include <unistd.h>

#include <fstream>

#include "json_writer.h"

namespace foveal::tools {
namespace {

void write_timings(JsonWriter& json, const LLM& llm, const Timings& timings) {
  json.key("timings").begin_object();
  json.field("load_ms", llm.load_ms()).field("ttft_ms", timings.ttft_ms);
  json.field("prefill_ms", timings.prefill_ms).field("prefill_tok_s", timings.prefill_tok_s());
  json.field("decode_ms", timings.decode_ms).field("decode_tok_s", timings.decode_tok_s());
  json.end_object();
}

void write_phases(JsonWriter& json, const LayerSparsity& sparsity) {
  json.field("prefill", sparsity.prefill.skipped()).field("decode", sparsity.decode.skipped());
}

void write_sparsity(JsonWriter& json, const SparsityReport& sparsity) {
  json.key("sparsity").begin_object().field("method", std::string_view(sparsity.method));
  const LayerSparsity total = sparsity.total();
  write_phases(json, total);
  json.field("prompt_tokens", static_cast<int64_t>(sparsity.prompt_tokens));
  json.field("kept_tokens", static_cast<int64_t>(sparsity.kept_tokens));
  json.field("decode_blocks", static_cast<int64_t>(total.decode.blocks));
  json.field("decode_blocks_read", static_cast<int64_t>(total.decode.blocks_read));
  json.field("decode_share_read", total.decode.share_read());
  json.key("layers").begin_array();
  for (const LayerSparsity& layer : sparsity.layers) {
    json.begin_object();
    write_phases(json, layer);
    json.end_object();
  }
  json.end_array().end_object();
}

void write_top(JsonWriter& json, const std::vector<TokenLogprob>& entries) {
  json.key("top").begin_array();
  for (const TokenLogprob& top : entries) {
    json.begin_object()
        .field("token", top.token)
        .field("logprob", double{top.logprob})
        .end_object();
  }
  json.end_array();
}

void write_logprobs(JsonWriter& json, const CompletionOutput& completion) {
  json.key("logprobs").begin_array();
  for (size_t idx = 0; idx < completion.logprobs.size(); ++idx) {
    json.begin_object().field("token", completion.logprobs[idx].token);
    json.field("logprob", double{completion.logprobs[idx].logprob});
    write_top(json, completion.top_logprobs[idx]);
    json.end_object();
  }
  json.end_array();
}

void write_prompt_logprobs(JsonWriter& json, const RequestOutput& output) {
  json.key("prompt_logprobs").begin_array();
  for (size_t at = 0; at < output.prompt_logprobs.size(); ++at) {
    json.begin_object();
    if (const auto& entry = output.prompt_logprobs[at]) {
      json.field("token", entry->token).field("logprob", double{entry->logprob});
      json.field("rank", entry->rank);
      write_top(json, output.prompt_top_logprobs[at]);
    }
    json.end_object();
  }
  json.end_array();
}

}  // namespace

int64_t resident_bytes() {
  std::ifstream file("/proc/self/statm");
  int64_t total = 0;
  int64_t resident = 0;
  file >> total >> resident;
  return resident * sysconf(_SC_PAGESIZE);
}

std::string run_json(const LLM& llm, const RequestOutput& output) {
  const CompletionOutput& completion = output.outputs.at(0);
  JsonWriter json;
  json.begin_object().field("text", std::string_view(completion.text));
  json.key("token_ids").begin_array();
  for (const int32_t token : completion.token_ids) json.value(token);
  json.end_array();
  json.field("finish_reason", finish_reason_name(completion.finish_reason));
  json.field("prompt_tokens", static_cast<int64_t>(output.prompt_token_ids.size()));
  json.field("completion_tokens", static_cast<int64_t>(completion.token_ids.size()));
  json.field("cached_tokens", output.cached_tokens);
  write_timings(json, llm, output.timings);
  write_sparsity(json, output.sparsity);
  json.key("memory").begin_object().field("weights_bytes", llm.weights_bytes());
  json.field("kv_bytes", output.memory.kv_bytes);
  json.field("kv_peak_bytes", output.memory.kv_peak_bytes);
  json.field("rss_bytes", resident_bytes()).end_object();
  if (!completion.logprobs.empty()) write_logprobs(json, completion);
  if (!output.prompt_logprobs.empty()) write_prompt_logprobs(json, output);
  json.end_object();
  return json.text();
}

std::string run_summary(const RequestOutput& output) {
  const Timings& timings = output.timings;
  const SparsityReport& sparsity = output.sparsity;
  const LayerSparsity total = sparsity.total();
  std::string out = fmt::format(
      "{} prompt tokens ({:.0f}/s), {} new tokens ({:.1f}/s), first after {:.2f} s; {}: skipped "
      "{:.1f} % in prefill, {:.1f} % in decode",
      output.prompt_token_ids.size(), timings.prefill_tok_s(),
      output.outputs.at(0).token_ids.size(), timings.decode_tok_s(), timings.ttft_ms / 1000,
      sparsity.method, 100 * total.prefill.skipped(), 100 * total.decode.skipped());
  if (sparsity.kept_tokens < sparsity.prompt_tokens) {
    out +=
        fmt::format("; kept {} of {} prompt tokens", sparsity.kept_tokens, sparsity.prompt_tokens);
  }
  if (total.decode.blocks > 0) {
    out += fmt::format("; decode read {} of {} blocks ({:.1f} %)", total.decode.blocks_read,
                       total.decode.blocks, 100 * total.decode.share_read());
  }
  return out;
}

}  // namespace foveal::tools

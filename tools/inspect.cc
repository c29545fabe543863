#include "engine/inspect.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "base/config_fields.h"
#include "base/options_node.h"
#include "cli_options.h"
#include "commands.h"
#include "json_writer.h"
#include "output.h"
#include "tokenizer/utf8.h"

namespace foveal::tools {
namespace {

struct InspectOptions {
  bool tensors = false;
  bool json = false;
};

OptionGroup describe(InspectOptions& options) {
  return {.fields = {{.name = "tensors", .target = &options.tensors, .help = "list every tensor"},
                     {.name = "json", .target = &options.json, .help = "print one JSON object"}}};
}

std::string shape_text(const std::vector<int64_t>& shape) {
  std::string out = "[";
  for (const int64_t extent : shape) out += (out.size() > 1 ? ", " : "") + std::to_string(extent);
  return out + "]";
}

std::string human_bytes(int64_t bytes) {
  if (bytes < 10 << 10) return fmt::format("{} B", bytes);
  if (bytes < 10 << 20) return fmt::format("{:.1f} KiB", static_cast<double>(bytes) / (1 << 10));
  return fmt::format("{:.1f} MiB", static_cast<double>(bytes) / (1 << 20));
}

std::string resolution_text(const attention::Resolution& resolution) {
  std::string out = resolution.method;
  if (!resolution.setting.empty()) out += " " + resolution.setting;
  if (!resolution.why.empty()) out += " (" + resolution.why + ")";
  return out;
}

/// Of what is read.
std::string tensor_counts(const engine::Inspection& info) {
  std::map<std::string, int> counts;
  size_t total = 0;
  for (const engine::TensorInspection& tensor : info.tensors) {
    if (tensor.left_out) continue;
    counts[tensor.dtype] += 1;
    ++total;
  }
  std::string out = fmt::format("{} tensors: ", total);
  for (const auto& [dtype, count] : counts) {
    out += fmt::format("{}{} {}", dtype == counts.begin()->first ? "" : ", ", count, dtype);
  }
  return out;
}

std::string layer_text(const engine::LayerInspection& layer) {
  return fmt::format("{}{}{}prefill {}; decode {}",
                     layer.window != 0 ? fmt::format("window {}; ", layer.window) : "",
                     layer.rotates ? "" : "no rope; ", layer.experts ? "experts; " : "",
                     resolution_text(layer.prefill), resolution_text(layer.decode));
}

// Layers that read alike are shown as one range.
std::string layers_text(const engine::Inspection& info) {
  std::string out;
  for (size_t first = 0; first < info.layers.size();) {
    const std::string text = layer_text(info.layers[first]);
    size_t end = first + 1;
    while (end < info.layers.size() && layer_text(info.layers[end]) == text) ++end;
    const std::string range =
        end - first == 1 ? std::to_string(first) : fmt::format("{}-{}", first, end - 1);
    out += fmt::format("  layer {:7} {}\n", range, text);
    first = end;
  }
  return out;
}

// Of prompts whose memory the method changes.
std::string memory_text(const engine::Inspection& info) {
  std::string out;
  for (const engine::MemoryInspection& row : info.memory) {
    if (row.reading_bytes == row.dense_bytes && row.kept_bytes == row.dense_bytes) continue;
    out +=
        fmt::format("  prompt {:6} dense {}; here {} while it is read, then {} for {} tokens\n",
                    row.prompt_tokens, human_bytes(row.dense_bytes), human_bytes(row.reading_bytes),
                    human_bytes(row.kept_bytes), row.kept_tokens);
  }
  return out.empty() ? out : "memory      of a request's K and V\n" + out;
}

std::string heads_text(const model::ModelConfig& model) {
  if (!model.latent) {
    return fmt::format("attention   {} heads, {} KV heads, head size {}\n", model.num_heads,
                       model.num_kv_heads, model.head_dim);
  }
  const model::LatentConfig& latent = *model.latent;
  std::string out = fmt::format(
      "attention   {} heads of {} + {} rotating channels and {} values, over latents of {} + {}\n",
      model.num_heads, latent.nope_dim, latent.rope_dim, latent.value_dim, latent.kv_rank,
      latent.rope_dim);
  if (!model.indexer) return out;
  const model::IndexerConfig& indexer = *model.indexer;
  return out + fmt::format("indexer     {} heads of {}, top {}, in {} of {} layers\n",
                           indexer.num_heads, indexer.head_dim, indexer.topk,
                           std::count(indexer.full.begin(), indexer.full.end(), 1),
                           model.num_layers);
}

std::string lanes_text(const engine::Inspection& info) {
  std::string out;
  for (const engine::LaneInspection& lane : info.lanes) {
    out += fmt::format("  lane {}: {} a token in {} layers\n", lane.name,
                       human_bytes(lane.bytes_per_token), lane.layers);
  }
  return out;
}

std::string shortage_text(const engine::Inspection& info) {
  if (!info.shortage) return {};
  const engine::Shortage& shortage = *info.shortage;
  return fmt::format(
      "fits        no: {} free on {}, and {} needed, of them {} for a cache of {} tokens\n",
      human_bytes(shortage.free_bytes), info.engine.device, human_bytes(shortage.needed_bytes),
      human_bytes(shortage.cache_bytes), shortage.cache_tokens);
}

std::string text_report(const engine::Inspection& info, bool tensors) {
  const model::ModelConfig& model = info.model;
  std::string out = fmt::format("model       {}{}{}, {}\n", printable(model.name),
                                model.name.empty() ? "" : ": ", model.architecture, info.format);
  out += fmt::format("size        {} layers, hidden {}, mlp {}, vocabulary {}\n", model.num_layers,
                     model.hidden_size, model.intermediate_size, model.vocab_size);
  if (model.num_experts > 0) {
    out += fmt::format("experts     {} of {}, {} wide\n", model.experts_per_token,
                       model.num_experts, model.moe_intermediate_size);
  }
  out += heads_text(model);
  out +=
      fmt::format("context     {} tokens, here {}\n", model.max_positions, info.engine.max_seq_len);
  out += fmt::format("weights     {} in {}\n", human_bytes(info.engine.weights_bytes),
                     tensor_counts(info));
  if (!info.expanded.empty()) {
    out += fmt::format("expanded    f8_e4m3 to bf16: {}\n", printable(info.expanded));
  }
  out += fmt::format("tokenizer   {}\n", info.tokenizer.empty() ? "none" : info.tokenizer);
  out += fmt::format("device      {}, {} threads, {}\n", info.engine.device, info.engine.threads,
                     info.engine.isa);
  out += fmt::format("KV cache    {} a token ({}); capacity {} tokens, {}\n",
                     human_bytes(info.engine.kv_bytes_per_token), info.engine.kv_dtype,
                     info.engine.kv_tokens, human_bytes(info.engine.kv_bytes));
  out += lanes_text(info);
  if (info.engine.workspace_bytes > 0) {
    out += fmt::format("workspace   {}\n", human_bytes(info.engine.workspace_bytes));
  }
  out += shortage_text(info);
  out += fmt::format("sparse      {}\n{}", info.attention, layers_text(info));
  out += memory_text(info);
  for (const engine::TensorInspection& tensor : info.tensors) {
    if (!tensors) break;
    out += fmt::format("  {:5} {:16} {}{}{}\n", tensor.dtype, shape_text(tensor.shape),
                       printable(tensor.name), tensor.expanded.empty() ? "" : ", in bf16",
                       tensor.left_out ? ", left out" : "");
  }
  return out;
}

void write_resolution(JsonWriter& json, std::string_view phase,
                      const attention::Resolution& resolution) {
  json.key(phase).begin_object().field("method", std::string_view(resolution.method));
  json.field("setting", std::string_view(resolution.setting));
  json.field("why", std::string_view(resolution.why)).end_object();
}

void write_latent(JsonWriter& json, const model::ModelConfig& model) {
  if (!model.latent) return;
  json.key("latent").begin_object().field("q_rank", model.latent->q_rank);
  json.field("kv_rank", model.latent->kv_rank).field("nope_dim", model.latent->nope_dim);
  json.field("rope_dim", model.latent->rope_dim).field("value_dim", model.latent->value_dim);
  json.end_object();
  if (!model.indexer) return;
  json.key("indexer").begin_object().field("num_heads", model.indexer->num_heads);
  json.field("head_dim", model.indexer->head_dim).field("topk", model.indexer->topk);
  json.field("rope_interleave", model.indexer->rope_interleave).key("full").begin_array();
  for (const uint8_t full : model.indexer->full) json.value(int64_t{full});
  json.end_array().end_object();
}

void write_lists(JsonWriter& json, const engine::Inspection& info) {
  json.key("layers").begin_array();
  for (const engine::LayerInspection& layer : info.layers) {
    json.begin_object().field("window", layer.window).field("rope", layer.rotates);
    json.field("experts", layer.experts);
    write_resolution(json, "prefill", layer.prefill);
    write_resolution(json, "decode", layer.decode);
    json.end_object();
  }
  json.end_array().key("lanes").begin_array();
  for (const engine::LaneInspection& lane : info.lanes) {
    json.begin_object().field("name", std::string_view(lane.name));
    json.field("bytes_per_token", lane.bytes_per_token).field("layers", lane.layers).end_object();
  }
  json.end_array().key("request_memory").begin_array();
  for (const engine::MemoryInspection& row : info.memory) {
    json.begin_object().field("prompt_tokens", row.prompt_tokens);
    json.field("kept_tokens", row.kept_tokens).field("dense_bytes", row.dense_bytes);
    json.field("reading_bytes", row.reading_bytes).field("kept_bytes", row.kept_bytes);
    json.end_object();
  }
  json.end_array().key("tensors").begin_array();
  for (const engine::TensorInspection& tensor : info.tensors) {
    json.begin_object().field("name", tokenizer::to_utf8(tensor.name));
    json.field("dtype", std::string_view(tensor.dtype)).key("shape").begin_array();
    for (const int64_t extent : tensor.shape) json.value(extent);
    json.end_array();
    if (!tensor.expanded.empty()) json.field("expanded", std::string_view(tensor.expanded));
    if (tensor.left_out) json.field("left_out", true);
    json.end_object();
  }
  json.end_array();
}

std::string json_report(const engine::Inspection& info) {
  const model::ModelConfig& model = info.model;
  JsonWriter json;
  json.begin_object().field("architecture", std::string_view(model.architecture));
  json.field("name", tokenizer::to_utf8(model.name)).field("format", std::string_view(info.format));
  json.field("num_layers", model.num_layers).field("hidden_size", model.hidden_size);
  json.field("intermediate_size", model.intermediate_size).field("vocab_size", model.vocab_size);
  json.field("num_heads", model.num_heads).field("num_kv_heads", model.num_kv_heads);
  json.field("head_dim", model.head_dim).field("num_experts", model.num_experts);
  write_latent(json, model);
  json.field("max_positions", model.max_positions);
  json.field("max_seq_len", info.engine.max_seq_len);
  json.field("tokenizer", std::string_view(info.tokenizer));
  json.field("device", std::string_view(info.engine.device));
  json.field("isa", std::string_view(info.engine.isa)).field("threads", info.engine.threads);
  json.field("weights_bytes", info.engine.weights_bytes);
  json.field("workspace_bytes", info.engine.workspace_bytes);
  json.field("kv_dtype", std::string_view(info.engine.kv_dtype));
  json.field("kv_bytes_per_token", info.engine.kv_bytes_per_token);
  json.field("kv_tokens", info.engine.kv_tokens).field("kv_bytes", info.engine.kv_bytes);
  json.field("fits", !info.shortage);
  if (info.shortage) {
    json.field("needed_bytes", info.shortage->needed_bytes);
    json.field("free_bytes", info.shortage->free_bytes);
  }
  json.field("method", std::string_view(info.engine.method));
  json.field("attention", std::string_view(info.attention));
  write_lists(json, info);
  return json.end_object().text() + "\n";
}

}  // namespace

int inspect_main(std::span<const std::string> args) {
  InspectOptions own;
  LlmConfig config;
  Command command("inspect", "Show a model and a configuration as they would run.");
  command.options("Inspect", describe(own));
  command.llm_config(config);
  if (!command.parse(args)) return 0;
  const engine::Inspection info = engine::inspect(config);
  write_out(own.json ? json_report(info) : text_report(info, own.tensors));
  return 0;
}

}  // namespace foveal::tools

#include "base/check.h"
#include "base/log.h"
#include "cli_options.h"
#include "commands.h"
#include "foveal/llm.h"
#include "foveal/version.h"
#include "progress_bars.h"
#include "server/http.h"
#include "server/lifecycle.h"
#include "server/service.h"
#include "server/settings.h"

namespace foveal::tools {
namespace {

void print_plan(const ModelInfo& info, const LlmConfig& config, const EngineStats& stats) {
  constexpr double kMiB = 1 << 20;
  log_info("foveal {}: {} ({}) on {}, {} threads, {}; loaded in {:.0f} ms", kVersion, info.name,
           info.architecture, info.device, info.threads, info.isa, info.load_ms);
  log_info("attention: {}", info.attention);
  log_info("KV cache: {} tokens in {} pages, {:.1f} MiB ({}, {} bytes a token over all lanes)",
           info.kv_tokens, stats.kv_pages_total, static_cast<double>(info.kv_bytes) / kMiB,
           info.kv_dtype, info.kv_bytes_per_token);
  if (info.workspace_bytes > 0) {
    log_info("beside it on {}: weights {:.1f} MiB, activations and workspace {:.1f} MiB",
             info.device, static_cast<double>(info.weights_bytes) / kMiB,
             static_cast<double>(info.workspace_bytes) / kMiB);
  }
  log_info("{:.2f} requests of full length ({} tokens) fit; at most {} run at once",
           static_cast<double>(info.kv_tokens) / static_cast<double>(info.max_seq_len),
           info.max_seq_len, config.max_batch_size);
}

}  // namespace

int serve_main(std::span<const std::string> args) {
  server::ServerSettings settings;
  LlmConfig config;
  Command command("serve", "Serve a model over HTTP with OpenAI's API.");
  command.options("Server", server::describe(settings));
  command.llm_config(config);
  if (!command.parse(args)) return 0;
  if (!settings.max_concurrent) settings.max_concurrent = config.max_batch_size;

  // What can be refused without loading anything is refused first.
  const server::HttpSettings http = server::http_settings(settings);
  LLM llm(config, loading_bar());
  print_plan(llm.info(), config, llm.stats());
  server::Service service(llm, settings);
  server::HttpServer listener(http, service);
  log_info("ready: {}://{}:{}/v1", http.certificate_file.empty() ? "http" : "https", http.host,
           listener.port());
  const bool good = server::run_server(
      listener, service,
      std::chrono::milliseconds(static_cast<int64_t>(settings.shutdown_timeout_s * 1000)));
  log_info("stopped");
  return good ? 0 : 1;
}

}  // namespace foveal::tools

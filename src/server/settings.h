#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/options.h"
#include "server/http.h"

namespace foveal::server {

/// Everything `foveal serve` is started with besides the engine. The table is in settings.cc.
struct ServerSettings {
  std::string host = "127.0.0.1";
  int64_t port = 8000;
  std::vector<std::string> served_model_name;
  std::vector<std::string> api_key;
  std::string api_key_file;
  std::string ssl_certfile;
  std::string ssl_keyfile;
  std::string cors_origin;
  int64_t http_threads = 2;
  int64_t max_connections = 2048;
  std::optional<int64_t> max_concurrent;  ///< absent: the engine's max_batch_size
  int64_t max_queue = 256;
  int64_t max_header_bytes = 16 << 10;
  int64_t max_body_bytes = 16 << 20;
  int64_t max_prompts = 128;
  int64_t max_n = 16;
  int64_t max_stop = 16;
  int64_t max_logprobs = 20;
  double header_timeout_s = 10;
  double body_timeout_s = 60;
  double idle_timeout_s = 75;
  double write_timeout_s = 30;
  double shutdown_timeout_s = 30;
};

OptionGroup describe(ServerSettings& settings);

/// Throws kInvalidArgument for host names, ports and time-outs that make no sense together.
HttpSettings http_settings(const ServerSettings& settings);

}  // namespace foveal::server

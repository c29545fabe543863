#include "server/settings.h"

#include <iterator>

#include "base/check.h"

namespace foveal::server {
namespace {

std::vector<OptionField> listen_fields(ServerSettings& settings) {
  return {
      {.name = "host",
       .target = &settings.host,
       .help = "address to listen at; 0.0.0.0: all of this machine"},
      {.name = "port",
       .target = &settings.port,
       .help = "0: any free one",
       .range = {.min = 0, .max = 65535}},
      {.name = "served_model_name",
       .target = &settings.served_model_name,
       .help = "name in the API; may be repeated; absent: the file's or folder's name"},
      {.name = "api_key",
       .target = &settings.api_key,
       .help =
           "accept only requests with this key; may be repeated. Others on this machine can see "
           "it among its processes: see api_key_file"},
      {.name = "api_key_file",
       .target = &settings.api_key_file,
       .help = "a file with one key a line"},
      {.name = "ssl_certfile",
       .target = &settings.ssl_certfile,
       .help = "PEM certificate chain: serve HTTPS"},
      {.name = "ssl_keyfile", .target = &settings.ssl_keyfile, .help = "its PEM key"},
      {.name = "cors_origin",
       .target = &settings.cors_origin,
       .help = "let web pages of this origin call the API, such as https://example.org; * for all"},
      {.name = "http_threads",
       .target = &settings.http_threads,
       .help = "threads that read requests and tokenise; one more moves bytes",
       .range = {.min = 1, .max = 256}},
  };
}

std::vector<OptionField> limit_fields(ServerSettings& settings) {
  return {
      {.name = "max_connections",
       .target = &settings.max_connections,
       .help = "open at once; more wait to be accepted",
       .range = {.min = 1, .max = 1048576}},
      {.name = "max_concurrent",
       .target = &settings.max_concurrent,
       .help = "completions worked on at once; absent: max_batch_size",
       .range = {.min = 1, .max = 1048576}},
      {.name = "max_queue",
       .target = &settings.max_queue,
       .help = "completions waiting beyond these; more are answered 429",
       .range = {.min = 0, .max = 1048576}},
      {.name = "max_header_bytes",
       .target = &settings.max_header_bytes,
       .help = "of one request",
       .range = {.min = 1024, .max = 1048576}},
      {.name = "max_body_bytes",
       .target = &settings.max_body_bytes,
       .help = "of one request",
       .range = {.min = 1024, .max = 1073741824}},
      {.name = "max_prompts",
       .target = &settings.max_prompts,
       .help = "prompts in one completion request",
       .range = {.min = 1, .max = 4096}},
      {.name = "max_n",
       .target = &settings.max_n,
       .help = "completions of one prompt",
       .range = {.min = 1, .max = 128}},
      {.name = "max_stop",
       .target = &settings.max_stop,
       .help = "stop strings of one request; bad words likewise",
       .range = {.min = 0, .max = 1024}},
      {.name = "max_logprobs",
       .target = &settings.max_logprobs,
       .help = "alternatives with each token",
       .range = {.min = 0, .max = 20}},
  };
}

std::vector<OptionField> time_fields(ServerSettings& settings) {
  const Range seconds{.min = 0.1, .max = 86400};
  return {
      {.name = "header_timeout_s",
       .target = &settings.header_timeout_s,
       .help = "for a request's head to arrive, in seconds",
       .range = seconds},
      {.name = "body_timeout_s",
       .target = &settings.body_timeout_s,
       .help = "for its body",
       .range = seconds},
      {.name = "idle_timeout_s",
       .target = &settings.idle_timeout_s,
       .help = "between two requests of a connection",
       .range = seconds},
      {.name = "write_timeout_s",
       .target = &settings.write_timeout_s,
       .help = "for a client to take anything of its answer",
       .range = seconds},
      {.name = "shutdown_timeout_s",
       .target = &settings.shutdown_timeout_s,
       .help = "for running requests to finish after SIGTERM",
       .range = {.min = 0, .max = 86400}},
  };
}

std::chrono::milliseconds milliseconds(double seconds) {
  return std::chrono::milliseconds(static_cast<int64_t>(seconds * 1000));
}

}  // namespace

OptionGroup describe(ServerSettings& settings) {
  OptionGroup group{.fields = listen_fields(settings)};
  for (auto& fields : {limit_fields(settings), time_fields(settings)}) {
    group.fields.insert(group.fields.end(), fields.begin(), fields.end());
  }
  group.check = [&settings]() -> std::optional<Complaint> {
    if (settings.ssl_certfile.empty() == settings.ssl_keyfile.empty()) return std::nullopt;
    return Complaint{settings.ssl_certfile.empty() ? "ssl_keyfile" : "ssl_certfile",
                     "got one of ssl_certfile and ssl_keyfile; need both or neither"};
  };
  return group;
}

HttpSettings http_settings(const ServerSettings& settings) {
  HttpSettings out{.host = settings.host,
                   .port = static_cast<uint16_t>(settings.port),
                   .threads = settings.http_threads,
                   .max_connections = settings.max_connections,
                   .max_header_bytes = static_cast<size_t>(settings.max_header_bytes),
                   .max_body_bytes = static_cast<size_t>(settings.max_body_bytes),
                   .header_timeout = milliseconds(settings.header_timeout_s),
                   .body_timeout = milliseconds(settings.body_timeout_s),
                   .idle_timeout = milliseconds(settings.idle_timeout_s),
                   .write_timeout = milliseconds(settings.write_timeout_s),
                   .certificate_file = settings.ssl_certfile,
                   .key_file = settings.ssl_keyfile};
  if (!settings.cors_origin.empty()) {
    for (const char c : settings.cors_origin) {
      FOVEAL_CHECK(c > 32 && c < 127, ErrorKind::kInvalidArgument, "cors_origin",
                   "got '{}'; need an origin or *", printable(settings.cors_origin));
    }
    out.headers = {{"Access-Control-Allow-Origin", settings.cors_origin}, {"Vary", "Origin"}};
  }
  return out;
}

}  // namespace foveal::server

#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "server/guard.h"

namespace foveal::server {

/// What the HTTP layer needs to know. Times are wall-clock limits of one phase of one connection.
struct HttpSettings {
  std::string host = "127.0.0.1";
  uint16_t port = 8000;  ///< 0: any free one
  int64_t threads = 2;   ///< for parsing, tokenising and writing JSON
  int64_t max_connections = 2048;
  size_t max_header_bytes = 16 << 10;
  size_t max_body_bytes = 16 << 20;
  size_t max_bodies_bytes = 512 << 20;  ///< of all bodies in memory at once
  size_t max_write_bytes = 256 << 10;   ///< of a stream that its client does not read
  std::chrono::milliseconds header_timeout{10'000};
  std::chrono::milliseconds body_timeout{60'000};
  std::chrono::milliseconds idle_timeout{75'000};
  std::chrono::milliseconds write_timeout{30'000};
  std::string certificate_file;  ///< PEM; both or neither
  std::string key_file;
  std::vector<std::pair<std::string, std::string>> headers;  ///< of every answer
};

struct HttpRequest {
  RequestHead head;
  std::string body;
  std::shared_ptr<void> room;  ///< counts the body among those in memory
};

struct HttpResponse {
  int status = 200;
  std::string body;
  std::string content_type = "application/json";
  /// Never text from a client: it could carry line ends.
  std::vector<std::pair<std::string, std::string>> headers;
};

/// One request's way back to its client. Any thread. A request whose exchange is dropped without an
/// answer gets a 500.
class Exchange {
 public:
  virtual ~Exchange() = default;
  virtual void respond(HttpResponse response) = 0;
  /// 200 with server-sent events; then any number of `write`, then `end_stream`.
  virtual void begin_stream() = 0;
  virtual void write(std::string bytes) = 0;
  virtual void end_stream() = 0;
  /// Called once, on the connection's strand, when the client has gone before its answer was
  /// whole. At once if it has already.
  virtual void on_closed(std::function<void()> callback) = 0;
  /// Runs a function on the connection's strand.
  virtual void post(std::function<void()> function) = 0;
  /// Runs a function on a worker thread: for what takes long. It must not throw.
  virtual void work(std::function<void()> function) = 0;
};

class HttpHandler {
 public:
  virtual ~HttpHandler() = default;
  /// Decides by the head alone, before the body is read. An answer ends the request. Must be quick
  /// and must not throw.
  virtual std::optional<HttpResponse> admit(const RequestHead& head) = 0;
  /// On a worker thread. Must not throw.
  virtual void handle(HttpRequest request, std::shared_ptr<Exchange> exchange) = 0;
  /// The answer to bytes that are no request.
  virtual HttpResponse malformed(int status, const std::string& message) = 0;
  /// True once connections should not be kept open.
  virtual bool closing() = 0;
};

/// Listens, reads requests, writes answers. The only part that knows sockets. HTTP/1.1 and 1.0,
/// with or without TLS.
class HttpServer {
 public:
  /// Binds. Throws kIo when the address cannot be had, kInvalidArgument for a bad one or a bad
  /// certificate.
  HttpServer(const HttpSettings& settings, HttpHandler& handler);
  /// Stops and joins; every open connection is dropped.
  ~HttpServer();

  uint16_t port() const;
  /// Accepts and serves until `stop`; the calling thread does the reading and writing.
  void run();
  /// Any thread. `run` returns soon.
  void stop();
  /// After `run`: ends the worker threads. Nothing calls the handler any more, and exchanges do
  /// nothing; the last of them must go before the server does.
  void join();
  /// Calls `function` on `run`'s thread again and again.
  void every(std::chrono::milliseconds period, std::function<void()> function);
  /// SIGTERM and SIGINT end up here, on `run`'s thread, in place of ending the process.
  void on_signal(std::function<void()> function);
  /// Requests that have arrived whole and whose Exchange still is.
  int64_t num_requests() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace foveal::server

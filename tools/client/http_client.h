#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

namespace foveal::client {

struct Url {
  bool tls = false;
  std::string host, port;
  std::string path;  ///< without a slash at its end; `/v1` where the address has none
};

/// `http://host:port` or `https://host/v1`. Throws kInvalidArgument, naming `flag`.
Url parse_url(const std::string& text, std::string_view flag);
bool is_url(std::string_view text);

struct HttpLimits {
  std::chrono::milliseconds connect{30'000};   ///< from the name to TLS's handshake
  std::chrono::milliseconds silence{600'000};  ///< the longest wait for the next byte
};

/// One connection to one server, kept open between requests. One thread at a time.
class HttpClient {
 public:
  HttpClient(Url url, std::string api_key, HttpLimits limits);
  ~HttpClient();
  HttpClient(const HttpClient&) = delete;
  HttpClient& operator=(const HttpClient&) = delete;

  /// Sends a request to `path` below the address; a body makes it a POST of JSON. `on_data` gets
  /// what comes back, piece by piece as it arrives, whatever the status. Returns the status. Throws
  /// kIo, `[http] got X; need Y`. What `on_data` throws passes through, and the connection is
  /// closed.
  int send(std::string_view path, std::string_view body,
           const std::function<void(std::string_view)>& on_data);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace foveal::client

// The only file of the client that knows Asio and Beast, which take half a minute to compile.
#include "client/http_client.h"

#include <array>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/ssl.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <optional>
#include <utility>

#include "base/check.h"
#include "client/within.h"

namespace foveal::client {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using Tcp = asio::ip::tcp;
using Plain = beast::tcp_stream;
using Tls = asio::ssl::stream<Plain>;

bool is_url(std::string_view text) {
  return text.starts_with("http://") || text.starts_with("https://");
}

Url parse_url(const std::string& text, std::string_view flag) {
  constexpr const char* kNeed = "need an address such as http://127.0.0.1:8000";
  FOVEAL_CHECK(is_url(text) && text.find_first_of(" \r\n\t@?#") == std::string::npos,
               ErrorKind::kInvalidArgument, flag, "got '{}'; {}", text, kNeed);
  Url url{.tls = text.starts_with("https")};
  const size_t begin = text.find("//") + 2;
  const size_t slash = std::min(text.find('/', begin), text.size());
  std::string authority = text.substr(begin, slash - begin);
  url.path = text.substr(slash);
  while (url.path.ends_with('/')) url.path.pop_back();
  if (url.path.empty()) url.path = "/v1";
  const size_t bracket = authority.rfind(']');  // of an IPv6 address
  const size_t colon = authority.rfind(':');
  url.port = url.tls ? "443" : "80";
  if (colon != std::string::npos && (bracket == std::string::npos || colon > bracket)) {
    url.port = authority.substr(colon + 1);
    authority.resize(colon);
  }
  if (authority.starts_with('[') && authority.ends_with(']')) {
    authority = authority.substr(1, authority.size() - 2);
  }
  url.host = authority;
  const bool digits = url.port.find_first_not_of("0123456789") == std::string::npos;
  const bool port = digits && !url.port.empty() && url.port.size() < 6 &&
                    std::stoi(url.port) >= 1 && std::stoi(url.port) <= 65535;
  FOVEAL_CHECK(!url.host.empty() && port, ErrorKind::kInvalidArgument, flag, "got '{}'; {}", text,
               kNeed);
  return url;
}

struct HttpClient::Impl {
  using OnData = std::function<void(std::string_view)>;

  Impl(Url where, std::string key, HttpLimits wanted)
      : url(std::move(where)), api_key(std::move(key)), limits(wanted) {
    if (!url.tls) return;
    security.emplace(asio::ssl::context::tls_client);
    security->set_default_verify_paths();
    security->set_verify_mode(asio::ssl::verify_peer);
    security->set_verify_callback(asio::ssl::host_name_verification(url.host));
  }

  bool is_open() const { return plain.has_value() || tls.has_value(); }
  void close() {
    tls.reset();
    plain.reset();
    buffer.clear();
  }
  Plain& lowest() { return tls ? tls->next_layer() : *plain; }

  // Asio's asynchronous resolver cannot be cancelled either: its destructor waits for the answer.
  Tcp::resolver::results_type resolve() const {
    auto found =
        within<Tcp::resolver::results_type>(limits.connect, [host = url.host, port = url.port] {
          asio::io_context own;
          return Tcp::resolver(own).resolve(host, port);
        });
    FOVEAL_CHECK(found.has_value(), ErrorKind::kIo, "http",
                 "got no address of {} within {:g} s; need a name that is known", url.host,
                 std::chrono::duration<double>(limits.connect).count());
    return *std::move(found);
  }

  asio::awaitable<void> connect() {
    const auto until = std::chrono::steady_clock::now() + limits.connect;
    const auto found = resolve();
    if (url.tls) {
      tls.emplace(Plain(context), *security);
    } else {
      plain.emplace(context);
    }
    lowest().expires_at(until);
    co_await lowest().async_connect(found, asio::use_awaitable);
    lowest().socket().set_option(Tcp::no_delay(true));
    if (!tls) co_return;
    SSL_set_tlsext_host_name(tls->native_handle(), url.host.c_str());
    co_await tls->async_handshake(asio::ssl::stream_base::client, asio::use_awaitable);
  }

  http::request<http::string_body> request_of(std::string_view path, std::string_view body) const {
    http::request<http::string_body> out(body.empty() ? http::verb::get : http::verb::post,
                                         url.path + std::string(path), 11);
    const bool numbers = url.host.find(':') != std::string::npos;
    out.set(http::field::host, (numbers ? "[" + url.host + "]" : url.host) + ":" + url.port);
    out.set(http::field::user_agent, "foveal");
    if (!api_key.empty()) out.set(http::field::authorization, "Bearer " + api_key);
    if (!body.empty()) out.set(http::field::content_type, "application/json");
    out.body() = body;
    out.prepare_payload();
    return out;
  }

  template <class Stream>
  asio::awaitable<int> exchange(Stream& stream, std::string_view path, std::string_view body,
                                const OnData& on_data, bool& begun) {
    lowest().expires_after(limits.silence);
    const auto request = request_of(path, body);
    co_await http::async_write(stream, request, asio::use_awaitable);
    // Answers that only announce another one (RFC 9110, 15.2) have no body and are passed over.
    constexpr int kMostInterim = 16;
    std::optional<http::response_parser<http::buffer_body>> read;
    for (int count = 0; count <= kMostInterim; ++count) {
      read.emplace().body_limit(boost::none);
      co_await http::async_read_header(stream, buffer, *read, asio::use_awaitable);
      begun = true;
      const int status = read->get().result_int();
      if (status / 100 != 1 || status == 101) break;
    }
    auto& parser = *read;
    std::array<char, 16384> piece;
    while (!parser.is_done()) {
      parser.get().body().data = piece.data();
      parser.get().body().size = piece.size();
      lowest().expires_after(limits.silence);
      beast::error_code code;
      co_await http::async_read_some(stream, buffer, parser,
                                     asio::redirect_error(asio::use_awaitable, code));
      if (code && code != http::error::need_buffer) throw boost::system::system_error(code);
      const size_t size = piece.size() - parser.get().body().size;
      if (size > 0) on_data({piece.data(), size});
    }
    const int status = parser.get().result_int();
    if (!parser.get().keep_alive()) close();
    co_return status;
  }

  asio::awaitable<int> once(std::string_view path, std::string_view body, const OnData& on_data,
                            bool& begun) {
    if (!is_open()) co_await connect();
    if (tls) co_return co_await exchange(*tls, path, body, on_data, begun);
    co_return co_await exchange(*plain, path, body, on_data, begun);
  }

  // Runs one exchange to its end on this thread.
  int run(std::string_view path, std::string_view body, const OnData& on_data, bool& begun) {
    std::optional<int> status;
    std::exception_ptr failure;
    asio::co_spawn(context, once(path, body, on_data, begun),
                   [&](const std::exception_ptr& error, int got) {
                     failure = error;
                     status = got;
                   });
    context.restart();
    context.run();
    if (failure) std::rethrow_exception(failure);
    FOVEAL_INVARIANT(status.has_value());
    return *status;
  }

  Url url;
  std::string api_key;
  HttpLimits limits;
  asio::io_context context{1};
  std::optional<asio::ssl::context> security;
  std::optional<Plain> plain;
  std::optional<Tls> tls;
  beast::flat_buffer buffer;
};

namespace {

std::string_view wanted(const boost::system::error_code& code, bool begun) {
  if (begun) return "the rest of the answer";
  if (code.category() != asio::error::get_ssl_category()) return "a server that answers";
  return "TLS with a certificate that is trusted here (SSL_CERT_FILE names those that are)";
}

}  // namespace

HttpClient::HttpClient(Url url, std::string api_key, HttpLimits limits)
    : impl_(std::make_unique<Impl>(std::move(url), std::move(api_key), limits)) {}

HttpClient::~HttpClient() = default;

int HttpClient::send(std::string_view path, std::string_view body,
                     const std::function<void(std::string_view)>& on_data) {
  while (true) {
    const bool reused = impl_->is_open();
    bool begun = false;
    try {
      return impl_->run(path, body, on_data, begun);
    } catch (const boost::system::system_error& error) {
      impl_->close();
      // The server closed the idle connection before it saw the request.
      if (reused && !begun && error.code() != beast::error::timeout) continue;
      fail(ErrorKind::kIo, "http", "got '{}' from {}:{}; need {}", error.code().message(),
           impl_->url.host, impl_->url.port, wanted(error.code(), begun));
    } catch (...) {
      impl_->close();
      throw;
    }
  }
}

}  // namespace foveal::client

#include "server/http.h"

#include <sys/resource.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>
#include <csignal>
#include <list>

#include "base/check.h"
#include "base/log.h"
#include "server/connection.h"

namespace foveal::server {

namespace asio = boost::asio;
using asio::ip::tcp;
using Code = boost::system::error_code;

namespace {

struct Ticker {
  Ticker(asio::io_context& io, std::chrono::milliseconds every, std::function<void()> what)
      : timer(io), period(every), function(std::move(what)) {}
  void start() {
    timer.expires_after(period);
    timer.async_wait([this](Code code) {
      if (code) return;
      function();
      start();
    });
  }
  asio::steady_timer timer;
  std::chrono::milliseconds period;
  std::function<void()> function;
};

asio::ssl::context make_tls(const HttpSettings& settings) {
  asio::ssl::context tls(asio::ssl::context::tls_server);
  tls.set_options(asio::ssl::context::no_tlsv1 | asio::ssl::context::no_tlsv1_1 |
                  asio::ssl::context::no_compression);
  SSL_CTX_set_mode(tls.native_handle(), SSL_MODE_RELEASE_BUFFERS);
  Code code;
  tls.use_certificate_chain_file(settings.certificate_file, code);
  FOVEAL_CHECK(!code, ErrorKind::kInvalidArgument, "ssl_certfile",
               "got '{}' ({}); need a PEM certificate chain", settings.certificate_file,
               code.message());
  tls.use_private_key_file(settings.key_file, asio::ssl::context::pem, code);
  FOVEAL_CHECK(!code, ErrorKind::kInvalidArgument, "ssl_keyfile",
               "got '{}' ({}); need the certificate's PEM key", settings.key_file, code.message());
  return tls;
}

// Every connection is a file, and the usual 1024 are few.
void raise_file_limit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

}  // namespace

struct HttpServer::Impl {
  Impl(const HttpSettings& settings, HttpHandler& handler)
      : workers(static_cast<size_t>(settings.threads)), acceptor(io), retry(io), signals(io) {
    shared.settings = settings;
    shared.handler = &handler;
    shared.workers = &workers;
    if (!settings.certificate_file.empty()) {
      tls.emplace(make_tls(settings));
      shared.tls = &*tls;
    }
    raise_file_limit();
    bind();
  }

  ~Impl() { join(); }

  void join() {
    shared.stopping.store(true);
    io.stop();
    workers.stop();
    workers.join();
  }

  void bind() {
    Code code;
    const HttpSettings& settings = shared.settings;
    const auto address =
        asio::ip::make_address(settings.host == "localhost" ? "127.0.0.1" : settings.host, code);
    FOVEAL_CHECK(!code, ErrorKind::kInvalidArgument, "host",
                 "got '{}'; need an address such as 127.0.0.1, 0.0.0.0 or ::1", settings.host);
    const tcp::endpoint endpoint(address, settings.port);
    acceptor.open(endpoint.protocol(), code);
    if (!code) acceptor.set_option(tcp::acceptor::reuse_address(true), code);
    if (!code) acceptor.bind(endpoint, code);
    if (!code) acceptor.listen(asio::socket_base::max_listen_connections, code);
    FOVEAL_CHECK(!code, ErrorKind::kIo, "port", "got no socket at {} port {} ({}); need a free one",
                 settings.host, settings.port, code.message());
  }

  void accept() {
    if (shared.connections.load() >= shared.settings.max_connections) return accept_later();
    acceptor.async_accept(asio::make_strand(io), [this](Code code, tcp::socket socket) {
      if (code == asio::error::operation_aborted) return;
      if (code) {
        // Out of file descriptors, most likely: going on at once would only burn time.
        if (!std::exchange(refused, true)) log_warn("connections wait: {}", code.message());
        return accept_later();
      }
      refused = false;
      auto connection = std::make_shared<Connection>(std::move(socket), shared);
      connection->post([connection] { connection->start(); });
      accept();
    });
  }

  void accept_later() {
    retry.expires_after(std::chrono::milliseconds(20));
    retry.async_wait([this](Code code) {
      if (!code) accept();
    });
  }

  void wait_signal() {
    signals.async_wait([this](Code code, int) {
      if (code) return;
      if (signal_function) signal_function();
      wait_signal();
    });
  }

  // Order matters: functions left in `workers` and `io` hold connections, whose sockets need `io`.
  HttpShared shared;
  std::optional<asio::ssl::context> tls;
  asio::io_context io{1};
  asio::thread_pool workers;
  tcp::acceptor acceptor;
  asio::steady_timer retry;
  asio::signal_set signals;
  std::list<Ticker> tickers;
  bool refused = false;  ///< the last time, so that it is said once
  std::function<void()> signal_function;
};

HttpServer::HttpServer(const HttpSettings& settings, HttpHandler& handler)
    : impl_(std::make_unique<Impl>(settings, handler)) {}

HttpServer::~HttpServer() = default;

uint16_t HttpServer::port() const { return impl_->acceptor.local_endpoint().port(); }

void HttpServer::run() {
  impl_->accept();
  while (true) {
    try {
      impl_->io.run();
      return;
    } catch (const std::exception& error) {
      // No memory, most likely. The connection whose turn it was is gone; the others go on.
      log_error("a connection was dropped: {}", error.what());
    }
  }
}

void HttpServer::stop() { impl_->io.stop(); }

void HttpServer::join() { impl_->join(); }

void HttpServer::every(std::chrono::milliseconds period, std::function<void()> function) {
  impl_->tickers.emplace_back(impl_->io, period, std::move(function)).start();
}

void HttpServer::on_signal(std::function<void()> function) {
  impl_->signal_function = std::move(function);
  impl_->signals.add(SIGINT);
  impl_->signals.add(SIGTERM);
  impl_->wait_signal();
}

int64_t HttpServer::num_requests() const { return impl_->shared.exchanges.load(); }

}  // namespace foveal::server

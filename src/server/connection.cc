// The only file that knows Beast, of which it uses the request parser (bodies and chunks). Heads
// have passed the guard before the parser sees them.
#include "server/connection.h"

#include <algorithm>
#include <boost/asio/buffer.hpp>
#include <boost/asio/dispatch.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <utility>

#include "base/log.h"
#include "server/http_text.h"

namespace foveal::server {

namespace asio = boost::asio;
namespace http = boost::beast::http;

namespace {

constexpr size_t kMaxAhead = 64 << 10;      // read while a request is being answered
constexpr size_t kMaxChunkHead = 4 << 10;   // of what the parser cannot use yet
constexpr size_t kMaxDiscarded = 64 << 20;  // after an early answer
constexpr std::chrono::milliseconds kLingerTime{2000};

}  // namespace

struct Connection::Parser {
  http::request_parser<http::string_body> beast;
};

Connection::Connection(asio::ip::tcp::socket socket, HttpShared& shared)
    : shared_(shared),
      socket_(std::move(socket)),
      read_timer_(socket_.get_executor()),
      write_timer_(socket_.get_executor()) {
  shared_.connections.fetch_add(1);
  if (shared_.tls != nullptr) tls_.emplace(socket_, *shared_.tls);
}

Connection::~Connection() { shared_.connections.fetch_sub(1); }

void Connection::start() {
  Code code;
  socket_.set_option(asio::ip::tcp::no_delay(true), code);
  if (!tls_) return next_request();
  arm_read(shared_.settings.header_timeout);
  tls_->async_handshake(asio::ssl::stream_base::server, [self = shared_from_this()](Code failed) {
    if (failed || self->state_ == State::kClosed) return self->close();
    self->next_request();
  });
}

void Connection::post(std::function<void()> function) {
  if (shared_.stopping.load()) return;
  asio::post(socket_.get_executor(), std::move(function));
}

void Connection::work(std::function<void()> function) {
  if (shared_.stopping.load()) return;
  asio::post(*shared_.workers, [call = std::move(function)] {
    try {
      call();
    } catch (const std::exception& error) {
      // No memory even to say so, most likely. The exchange, dropped, answers 500 or closes.
      log_error("a request was dropped: {}", error.what());
    }
  });
}

void Connection::arm_read(std::chrono::milliseconds timeout) {
  read_timer_.expires_after(timeout);
  read_timer_.async_wait([weak = weak_from_this()](Code code) {
    if (code) return;
    if (auto self = weak.lock()) self->on_read_timeout();
  });
}

void Connection::on_read_timeout() {
  if (read_timer_.expiry() > std::chrono::steady_clock::now()) return;  // armed anew meanwhile
  if (state_ == State::kHead || state_ == State::kBody) {
    return reject(408, "the request took too long to arrive");
  }
  if (state_ != State::kBusy) close();
}

void Connection::read() {
  if (reading_ || gone_ || state_ == State::kClosed) return;
  if (state_ == State::kBusy && in_.size() >= kMaxAhead) return;
  reading_ = true;
  auto done = [self = shared_from_this()](Code code, size_t bytes) { self->on_read(code, bytes); };
  if (tls_) {
    tls_->async_read_some(asio::buffer(scratch_), std::move(done));
  } else {
    socket_.async_read_some(asio::buffer(scratch_), std::move(done));
  }
}

void Connection::on_read(Code code, size_t bytes) {
  reading_ = false;
  if (state_ == State::kClosed) return;
  if (code) return on_gone();
  if (state_ == State::kLinger) {
    discarded_ += bytes;
    if (discarded_ > kMaxDiscarded) return close();
    return read();
  }
  in_.append(scratch_.data(), bytes);
  advance();
  read();
}

/// A client that stops sending while its answer is made has left, as far as we can see; what is
/// ready already is still written.
void Connection::on_gone() {
  gone_ = true;
  if (state_ != State::kBusy && !write_busy_) return close();
  call_closed();
}

void Connection::call_closed() {
  if (auto callback = std::exchange(closed_, nullptr)) callback();
}

void Connection::advance() {
  bool more = true;
  while (more) {
    switch (state_) {
      case State::kIdle:
      case State::kHead:
        more = read_head_part();
        break;
      case State::kBody:
        more = read_body_part();
        break;
      default:
        more = false;
    }
  }
}

bool Connection::read_head_part() {
  if (state_ == State::kIdle) {
    size_t blank = 0;  // lines in front of a request; dropped at once, for there may be thousands
    while (in_.compare(blank, 2, "\r\n") == 0) blank += 2;
    in_.erase(0, blank);
    if (in_.empty() || in_ == "\r") return false;
    state_ = State::kHead;
    scanned_ = 0;
    arm_read(shared_.settings.header_timeout);
  }
  const size_t end = in_.find("\r\n\r\n", scanned_);
  const size_t max = shared_.settings.max_header_bytes;
  if (end == std::string::npos ? in_.size() > max : end + 4 > max) {
    reject(431, "the header is too large");
    return false;
  }
  if (end == std::string::npos) {
    scanned_ = in_.size() < 3 ? 0 : in_.size() - 3;
    return false;
  }
  std::string bytes = in_.substr(0, end + 4);
  in_.erase(0, end + 4);
  begin_request(std::move(bytes));
  return state_ == State::kBody || state_ == State::kIdle;
}

void Connection::begin_request(std::string head_bytes) {
  auto result = read_head(head_bytes);
  if (const auto* error = std::get_if<GuardError>(&result)) {
    return reject(error->status, error->message);
  }
  head_ = std::get<RequestHead>(std::move(result));
  parser_ = std::make_unique<Parser>();
  parser_->beast.header_limit(static_cast<uint32_t>(shared_.settings.max_header_bytes));
  parser_->beast.body_limit(shared_.settings.max_body_bytes);
  Code code;
  parser_->beast.put(asio::buffer(head_bytes), code);
  if (code == http::error::body_limit) return reject(413, "the body is too large");
  if (code && code != http::error::need_more) return reject(400, "malformed request");
  if (!parser_->beast.is_header_done()) return reject(400, "malformed header");
  if (const auto answer = shared_.handler->admit(head_)) {
    // A body that nobody reads would be taken for the next request.
    const bool keep = head_.keep_alive && !head_.has_body();
    state_ = State::kBusy;
    ++number_;
    send(*answer, keep);
    return finish(keep);
  }
  begin_body();
}

/// False when so many bodies are in memory that this one would be too much.
bool Connection::reserve_body() {
  const size_t max = shared_.settings.max_body_bytes;
  const size_t size = head_.chunked ? max : static_cast<size_t>(head_.content_length.value_or(0));
  room_.reset();
  if (size == 0) return true;
  std::atomic<size_t>& sum = shared_.bodies_bytes;
  if (sum.fetch_add(size) + size > std::max(shared_.settings.max_bodies_bytes, max)) {
    sum.fetch_sub(size);
    return false;
  }
  room_ = std::shared_ptr<void>(
      &sum, [size](void* it) { static_cast<std::atomic<size_t>*>(it)->fetch_sub(size); });
  return true;
}

void Connection::begin_body() {
  if (!reserve_body()) return reject(429, "too many large requests at once; try again later");
  state_ = State::kBody;
  parser_->beast.eager(true);
  arm_read(shared_.settings.body_timeout);
  if (head_.expects_continue && head_.has_body() && in_.empty()) {
    pending_ += "HTTP/1.1 100 Continue\r\n\r\n";
    flush();
  }
}

bool Connection::read_body_part() {
  Code code;
  if (!parser_->beast.is_done()) {
    if (in_.empty()) return false;
    const size_t used = parser_->beast.put(asio::buffer(in_), code);
    in_.erase(0, used);
    if (code == http::error::body_limit) {
      reject(413, "the body is too large");
      return false;
    }
    if (code && code != http::error::need_more) {
      reject(400, "malformed body");
      return false;
    }
  }
  if (!parser_->beast.is_done()) {
    if (in_.size() > kMaxChunkHead) reject(400, "malformed chunk");
    return false;
  }
  dispatch();
  return false;
}

namespace {

class ConnectionExchange : public Exchange {
 public:
  ConnectionExchange(std::shared_ptr<Connection> connection, uint64_t number,
                     std::atomic<int64_t>& count)
      : connection_(std::move(connection)), number_(number), count_(count) {
    count_.fetch_add(1);
  }
  ~ConnectionExchange() override {
    connection_->post([c = connection_, n = number_] { c->abandon(n); });
    count_.fetch_sub(1);
  }
  void respond(HttpResponse response) override {
    connection_->post(
        [c = connection_, n = number_, r = std::move(response)] { c->respond(n, r); });
  }
  void begin_stream() override {
    connection_->post([c = connection_, n = number_] { c->begin_stream(n); });
  }
  void write(std::string bytes) override {
    connection_->post(
        [c = connection_, n = number_, b = std::move(bytes)] { c->write_stream(n, b); });
  }
  void end_stream() override {
    connection_->post([c = connection_, n = number_] { c->end_stream(n); });
  }
  void on_closed(std::function<void()> callback) override {
    connection_->post([c = connection_, n = number_, f = std::move(callback)]() mutable {
      c->on_closed(n, std::move(f));
    });
  }
  void post(std::function<void()> function) override { connection_->post(std::move(function)); }
  void work(std::function<void()> function) override { connection_->work(std::move(function)); }

 private:
  std::shared_ptr<Connection> connection_;
  uint64_t number_;
  std::atomic<int64_t>& count_;
};

}  // namespace

void Connection::dispatch() {
  read_timer_.cancel();
  state_ = State::kBusy;
  ++number_;
  // Shared, because a posted function must be copyable.
  auto request = std::make_shared<HttpRequest>();
  request->head = head_;
  request->body = std::move(parser_->beast.get().body());
  request->room = std::move(room_);
  parser_.reset();
  auto exchange =
      std::make_shared<ConnectionExchange>(shared_from_this(), number_, shared_.exchanges);
  work([handler = shared_.handler, request, exchange = std::move(exchange)]() mutable {
    handler->handle(std::move(*request), std::move(exchange));
  });
}

void Connection::reject(int status, const std::string& message) {
  head_ = {};
  head_.method = "GET";
  state_ = State::kBusy;
  ++number_;
  send(shared_.handler->malformed(status, message), /*keep_alive=*/false);
  finish(/*keep_alive=*/false);
}

void Connection::send(const HttpResponse& response, bool keep_alive) {
  pending_ += response_head(
      response,
      {.minor = head_.minor, .keep_alive = keep_alive, .headers = &shared_.settings.headers});
  if (head_.method != "HEAD") pending_ += response.body;
}

void Connection::finish(bool keep_alive) {
  closed_ = nullptr;
  streaming_ = false;
  state_ = State::kBusy;
  ++number_;  // the exchange is used up
  then_ = keep_alive && !gone_ ? Then::kNext : Then::kClose;
  flush();
}

void Connection::respond(uint64_t number, const HttpResponse& response) {
  if (!current(number) || streaming_) return;
  const bool keep = head_.keep_alive && !shared_.handler->closing();
  send(response, keep);
  finish(keep);
}

void Connection::begin_stream(uint64_t number) {
  if (!current(number) || streaming_) return;
  streaming_ = true;
  chunked_ = head_.minor == 1;
  if (!chunked_ || shared_.handler->closing()) head_.keep_alive = false;
  pending_ += stream_head(
      {.minor = head_.minor, .keep_alive = head_.keep_alive, .headers = &shared_.settings.headers});
}

void Connection::write_stream(uint64_t number, std::string_view bytes) {
  if (!current(number) || !streaming_ || bytes.empty()) return;
  // A client that does not read what it asked for is cut off; its answer is not kept for it.
  if (pending_.size() > shared_.settings.max_write_bytes) return close();
  append_chunk(pending_, bytes, chunked_);
  flush();
}

void Connection::end_stream(uint64_t number) {
  if (!current(number) || !streaming_) return;
  if (chunked_) pending_ += "0\r\n\r\n";
  finish(head_.keep_alive);
}

/// The exchange is gone: if it was not used, that is our mistake.
void Connection::abandon(uint64_t number) {
  if (!current(number)) return;
  if (streaming_) return close();
  send(shared_.handler->malformed(500, "the request was dropped"), /*keep_alive=*/false);
  finish(/*keep_alive=*/false);
}

void Connection::on_closed(uint64_t number, std::function<void()> callback) {
  if (number != number_) {
    if (state_ == State::kClosed) callback();
    return;
  }
  closed_ = std::move(callback);
  if (gone_ || state_ == State::kClosed) call_closed();
}

void Connection::flush() {
  if (write_busy_ || state_ == State::kClosed) return;
  if (written_ == writing_.size()) {
    if (pending_.empty()) return on_drained();
    writing_ = std::exchange(pending_, {});
    written_ = 0;
  }
  write_busy_ = true;
  write_timer_.expires_after(shared_.settings.write_timeout);
  write_timer_.async_wait([weak = weak_from_this()](Code code) {
    if (code) return;
    const auto self = weak.lock();
    if (self && self->write_busy_ &&
        self->write_timer_.expiry() <= std::chrono::steady_clock::now()) {
      self->close();
    }
  });
  const auto rest = asio::buffer(writing_) + written_;
  auto done = [self = shared_from_this()](Code code, size_t bytes) {
    self->on_written(code, bytes);
  };
  if (tls_) {
    tls_->async_write_some(rest, std::move(done));
  } else {
    socket_.async_write_some(rest, std::move(done));
  }
}

void Connection::on_written(Code code, size_t bytes) {
  write_busy_ = false;
  if (state_ == State::kClosed) return;
  if (code) return close();
  written_ += bytes;
  flush();
}

void Connection::on_drained() {
  write_timer_.cancel();
  writing_ = {};
  written_ = 0;
  const Then then = std::exchange(then_, Then::kNothing);
  if (then == Then::kNext) {
    next_request();
  } else if (then == Then::kClose) {
    linger();
  }
}

void Connection::next_request() {
  state_ = State::kIdle;
  if (gone_) return close();
  arm_read(shared_.settings.idle_timeout);
  advance();
  read();
}

/// Closing with unread bytes would make the kernel send a reset, which can destroy the answer on
/// its way: the client is told that no more comes, and what it still sends is read for a while.
void Connection::linger() {
  if (gone_) return close();
  state_ = State::kLinger;
  in_ = {};
  parser_.reset();
  room_.reset();
  arm_read(kLingerTime);
  if (tls_) {
    tls_->async_shutdown([self = shared_from_this()](Code) { self->close(); });
    return;
  }
  Code code;
  socket_.shutdown(asio::ip::tcp::socket::shutdown_send, code);
  read();
}

void Connection::close() {
  if (state_ == State::kClosed) return;
  state_ = State::kClosed;
  read_timer_.cancel();
  write_timer_.cancel();
  Code code;
  socket_.close(code);
  call_closed();
}

}  // namespace foveal::server

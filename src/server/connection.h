#pragma once

#include <array>
#include <atomic>
#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/thread_pool.hpp>
#include <memory>
#include <optional>
#include <string>

#include "server/http.h"

namespace foveal::server {

/// What all connections of a server share; outlives them.
struct HttpShared {
  HttpSettings settings;
  HttpHandler* handler = nullptr;
  boost::asio::thread_pool* workers = nullptr;
  boost::asio::ssl::context* tls = nullptr;  ///< null: plain
  std::atomic<int64_t> connections{0};
  std::atomic<int64_t> exchanges{0};  ///< requests that have arrived and are not done with
  std::atomic<bool> stopping{false};  ///< nothing more may be posted
  std::atomic<size_t> bodies_bytes{0};
};

/// One socket. Everything runs on its strand, but for the constructor and the Exchange's calls,
/// which post. There is always one read under way (unless a client sent far ahead), so that a
/// client that leaves is seen at once; bytes of requests sent ahead wait in `in_`.
class Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(boost::asio::ip::tcp::socket socket, HttpShared& shared);
  ~Connection();
  void start();

  /// Of request `number`; calls for an earlier one are ignored.
  void post(std::function<void()> function);
  void work(std::function<void()> function);
  void respond(uint64_t number, const HttpResponse& response);
  void begin_stream(uint64_t number);
  void write_stream(uint64_t number, std::string_view bytes);
  void end_stream(uint64_t number);
  void abandon(uint64_t number);
  void on_closed(uint64_t number, std::function<void()> callback);

 private:
  enum class State : uint8_t { kHandshake, kIdle, kHead, kBody, kBusy, kLinger, kClosed };
  struct Parser;  // Beast's
  using Code = boost::system::error_code;

  void read();
  void on_read(Code code, size_t bytes);
  void on_gone();
  void advance();
  bool read_head_part();
  bool read_body_part();
  bool reserve_body();
  void begin_request(std::string head_bytes);
  void begin_body();
  void dispatch();
  void reject(int status, const std::string& message);
  void send(const HttpResponse& response, bool keep_alive);
  void finish(bool keep_alive);
  void flush();
  void on_written(Code code, size_t bytes);
  void on_drained();
  void next_request();
  void linger();
  void close();
  void call_closed();
  void arm_read(std::chrono::milliseconds timeout);
  void on_read_timeout();
  bool current(uint64_t number) const { return number == number_ && state_ == State::kBusy; }

  HttpShared& shared_;
  boost::asio::ip::tcp::socket socket_;
  std::optional<boost::asio::ssl::stream<boost::asio::ip::tcp::socket&>> tls_;
  boost::asio::steady_timer read_timer_;
  boost::asio::steady_timer write_timer_;
  State state_ = State::kHandshake;
  std::array<char, 8192> scratch_;
  std::string in_;
  size_t scanned_ = 0;  ///< of `in_`: holds no end of a head
  bool reading_ = false;
  bool gone_ = false;  ///< the client sends no more
  std::unique_ptr<Parser> parser_;
  RequestHead head_;
  std::shared_ptr<void> room_;  ///< of the body
  uint64_t number_ = 0;
  bool streaming_ = false;
  bool chunked_ = false;
  std::string writing_;
  size_t written_ = 0;
  std::string pending_;
  bool write_busy_ = false;
  enum class Then : uint8_t { kNothing, kNext, kClose };
  Then then_ = Then::kNothing;
  size_t discarded_ = 0;
  std::function<void()> closed_;
};

}  // namespace foveal::server
